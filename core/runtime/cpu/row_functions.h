#pragma once

#include "core/model/config.h"

#include <cstdint>

namespace nibble {

/// out = (x − mean) / sqrt(variance + epsilon) · weight + bias (where there is one)
void layerNorm(const float* x, const float* weight, const float* bias, float epsilon, int64_t count,
               float* out);

/// gate = activation(gate) · up; with no `up`, gate = activation(gate). Silu with a gate is the
/// kernels' own (CpuKernels::gate).
void activate(Activation activation, float* gate, const float* up, int64_t count);

} // namespace nibble
