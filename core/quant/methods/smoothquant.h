#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Moves outliers of the activations into the weights, so that both fit 8 bits (Xiao et al. 2022).
/// How far is searched for each input.
extern const Method kSmoothQuant;

} // namespace nibble
