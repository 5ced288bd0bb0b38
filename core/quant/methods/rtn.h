#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Round to nearest with a searched scale for each group; needs no data.
extern const Method kRtn;
/// The same with the energy of each input channel, from calibration, as its weight: what llama.cpp
/// calls an importance matrix.
extern const Method kAbsmax;
extern const Method kImatrix;

/// Rounds row by row under QuantizeInput::importance.
Tensor quantizeRtn(const QuantizeInput& input, const Format& format, const Progress& progress);

} // namespace nibble
