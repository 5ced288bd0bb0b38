#pragma once

#include "core/quant/quantizer.h"
#include "core/runtime/runner.h"

namespace nibble {

/// Sets every tensor of the runner to the recipe's, quantizing tensor by tensor. With `previous`
/// (the recipe that the runner has now) only the tensors that differ are made and uploaded. Returns
/// how many were set. On cancel the runner keeps a mixture: apply again before running it.
/// `calibration` may be null where neededCalibration() says Nothing.
int applyRecipe(Runner& runner, const Recipe& recipe, const Recipe* previous = nullptr,
                const Progress& progress = {},
                std::shared_ptr<const Calibration> calibration = nullptr);

} // namespace nibble
