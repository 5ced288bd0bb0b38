#pragma once

#include "core/runtime/cpu/kernels.h"

namespace nibble {

/// Products by definition, one value after the other: the reference of all other kernels.
/// Integer: in each block of 32 columns the codes, zero points and scale codes are multiplied and
/// added exactly in integers; then float32, block after block with one fused multiply-add each.
void scalarIntegerProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                          int64_t end, float* out, int64_t stride);
/// Decoded weights times floats, summed in double.
void scalarFloatProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                        int64_t end, float* out, int64_t stride);

} // namespace nibble
