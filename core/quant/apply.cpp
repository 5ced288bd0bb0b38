#include "core/quant/apply.h"

#include "core/base/error.h"
#include "core/base/heap.h"
#include "core/base/mapped_file.h"
#include "core/files/packings.h"
#include "core/model/names.h"
#include "core/runtime/memory.h"

#include <fmt/format.h>

namespace nibble {
namespace {

/// The caller's progress without its reports, for the parts of one step.
Progress silent(const Progress& progress) {
    Progress part = progress;
    part.onReport = nullptr;
    return part;
}

/// Recipes that scale inputs change tensors beside those they name: with one of them all of a layer
/// is made again.
bool scalesInputs(const Model& model, const Recipe& recipe) {
    for (const TensorKey key : model.keys())
        if (const TensorChoice choice = recipe.choose(model, key);
            choice.format && choice.method && choice.method->inputScales)
            return true;
    return false;
}

/// The tensor as a runner may make it again and again. A view of the file becomes bytes of its own,
/// so that what is in memory is what a budget counts, and nothing is read later that is gone by
/// then. The model outlives its runner's stages.
Tensor madeFromFile(const Model& model, const Recipe& recipe, TensorKey key) {
    const TensorInfo& info = model.get(key);
    const Bytes& stored = info.packed ? info.packed->codes : info.bytes;
    if (info.mapped || info.packed)
        requireReadable(stored.view(), info.name);
    Tensor made = Quantizer(model, recipe).tensor(key);
    const std::span<const std::byte> view = stored.view(), codes = made.codes.view();
    if (info.mapped && !codes.empty() && codes.data() >= view.data() &&
        codes.data() < view.data() + view.size()) {
        made.codes = Bytes::of(std::vector<std::byte>(codes.begin(), codes.end()));
        releasePages(view);
    }
    return made;
}

} // namespace

std::string whyExpertsStay(const Model& model, const Recipe& recipe) {
    for (const TensorKey key : model.keys()) {
        if (!isExpertMatrix(key))
            continue;
        const TensorChoice choice = recipe.choose(model, key);
        const TensorInfo& info = model.get(key);
        const bool made = choice.format && choice.format != info.format();
        const bool looks = made && !choice.format->isFloat() && choice.method &&
                           (choice.method->needs != Needs::Nothing || choice.method->inputScales);
        const bool isKnown = !choice.format && info.packed && info.packed->staticActivations;
        if (looks || (choice.activations == ActivationFormat::Int8Static && !isKnown))
            return fmt::format(
                "The experts do not fit into memory, and \"{}\" is made with a calibration, which "
                "cannot be done again while the model runs. Write the level into a file with "
                "\"nibble-cli quantize\" and open that, or choose a level that only rounds, such "
                "as q4_k_m.",
                tensorName(key));
    }
    return {};
}

Tensor variantTensor(const Model& model, const Recipe& recipe, TensorKey key,
                     const Progress& progress, std::shared_ptr<const Calibration> calibration) {
    return Quantizer(model, recipe, std::move(calibration)).tensor(key, progress);
}

int applyRecipe(Runner& runner, const Recipe& recipe, const Recipe* previous,
                const Progress& progress, std::shared_ptr<const Calibration> calibration) {
    const Model& model = runner.model();
    const bool everyLayer = previous && recipe != *previous &&
                            (scalesInputs(model, recipe) || scalesInputs(model, *previous));
    std::vector<TensorKey> todo;
    for (const TensorKey key : model.keys())
        if (!previous || (everyLayer && key.layer >= 0) ||
            recipe.choose(model, key) != previous->choose(model, key))
            todo.push_back(key);
    const bool lazily = runner.options().expertBudget > 0;
    if (const std::string why = lazily ? whyExpertsStay(model, recipe) : ""; !why.empty())
        throw Error(ErrorKind::OutOfMemory, why);
    const auto shared = std::make_shared<const Recipe>(recipe);
    Quantizer quantizer(model, recipe, std::move(calibration));
    const auto total = static_cast<double>(todo.size());
    for (size_t i = 0; i < todo.size(); ++i) {
        progress.check();
        progress.report(static_cast<double>(i), total, model.get(todo[i]).name);
        const TensorChoice choice = recipe.choose(model, todo[i]);
        const Activations activations{choice.activations, choice.outlierThreshold};
        if (const TensorKey key = todo[i]; lazily && isExpertMatrix(key))
            runner.setLazily(key,
                             {recipeBytes(model, recipe, key),
                              choice.format ? choice.format : model.get(key).format(),
                              [&model, shared, key] { return madeFromFile(model, *shared, key); }},
                             activations);
        else
            runner.setTensor(key, quantizer.tensor(key, silent(progress)), activations);
    }
    returnFreedMemory();
    progress.report(total, total, "");
    return static_cast<int>(todo.size());
}

} // namespace nibble
