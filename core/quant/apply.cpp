#include "core/quant/apply.h"

#include "core/base/heap.h"

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

} // namespace

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
    Quantizer quantizer(model, recipe, std::move(calibration));
    const auto total = static_cast<double>(todo.size());
    for (size_t i = 0; i < todo.size(); ++i) {
        progress.check();
        progress.report(static_cast<double>(i), total, model.get(todo[i]).name);
        const TensorChoice choice = recipe.choose(model, todo[i]);
        runner.setTensor(todo[i], quantizer.tensor(todo[i], silent(progress)),
                         {choice.activations, choice.outlierThreshold});
    }
    returnFreedMemory();
    progress.report(total, total, "");
    return static_cast<int>(todo.size());
}

} // namespace nibble
