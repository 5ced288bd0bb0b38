#include "core/quant/apply.h"

#include "core/base/error.h"
#include "core/base/heap.h"

#include <cmath>

namespace nibble {
namespace {

/// The caller's progress without its reports, for the parts of one step.
Progress silent(const Progress& progress) {
    Progress part = progress;
    part.onReport = nullptr;
    return part;
}

void requireFinite(const Tensor& vector) {
    const std::vector<float> values = decode(vector);
    for (size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
            fail(ErrorKind::BadInput,
                 "Tensor \"{}\" holds {} in row 0, column {}; the model is damaged: download it "
                 "again.",
                 printable(vector.name), values[i], i);
}

} // namespace

Tensor variantTensor(const Model& model, const Recipe& recipe, TensorKey key,
                     const Progress& progress) {
    const TensorChoice choice = recipe.choose(model, key);
    Tensor base = model.load(key);
    if (!isMatrix(key.role))
        requireFinite(base);
    if (!choice.format || choice.format == base.format)
        return base;
    const Method& method = choice.method ? *choice.method : methods().front();
    return quantize(base, *choice.format, method, {}, progress);
}

int applyRecipe(Runner& runner, const Recipe& recipe, const Recipe* previous,
                const Progress& progress) {
    const Model& model = runner.model();
    std::vector<TensorKey> todo;
    for (const TensorKey key : model.keys())
        if (!previous || recipe.choose(model, key) != previous->choose(model, key))
            todo.push_back(key);
    const auto total = static_cast<double>(todo.size());
    for (size_t i = 0; i < todo.size(); ++i) {
        progress.check();
        progress.report(static_cast<double>(i), total, model.get(todo[i]).name);
        runner.setTensor(todo[i], variantTensor(model, recipe, todo[i], silent(progress)),
                         recipe.choose(model, todo[i]).activations);
    }
    returnFreedMemory();
    progress.report(total, total, "");
    return static_cast<int>(todo.size());
}

} // namespace nibble
