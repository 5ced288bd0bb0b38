#pragma once

#include "core/quant/quantizer.h"
#include "core/runtime/runner.h"

namespace nibble {

/// Why the recipe's experts cannot be made one by one from the model's file while it runs, and what
/// to do instead, in sentences; empty where they can: as they are stored, or rounded without a
/// calibration.
std::string whyExpertsStay(const Model& model, const Recipe& recipe);

/// Sets every tensor of the runner to the recipe's, quantizing tensor by tensor. With `previous`
/// (the recipe that the runner has now) only the tensors that differ are made and uploaded. Returns
/// how many were set. On cancel the runner keeps a mixture: apply again before running it.
/// `calibration` may be null where neededCalibration() says Nothing. Where the runner has a budget
/// for experts, they are made when they are used; Error{OutOfMemory} for a recipe that cannot be.
int applyRecipe(Runner& runner, const Recipe& recipe, const Recipe* previous = nullptr,
                const Progress& progress = {},
                std::shared_ptr<const Calibration> calibration = nullptr);

} // namespace nibble
