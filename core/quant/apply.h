#pragma once

#include "core/quant/recipe.h"
#include "core/runtime/runner.h"

namespace nibble {

/// Sets every tensor of the runner to the recipe's, quantizing tensor by tensor. With `previous`
/// (the recipe that the runner has now) only the tensors that differ are made and uploaded. Returns
/// how many were set. On cancel the runner keeps a mixture: apply again before running it.
int applyRecipe(Runner& runner, const Recipe& recipe, const Recipe* previous = nullptr,
                const Progress& progress = {});

} // namespace nibble
