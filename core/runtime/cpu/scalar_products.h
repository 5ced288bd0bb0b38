#pragma once

#include "core/runtime/cpu/kernels.h"

namespace nibble {

/// Products by definition, one value after the other: the reference of all other kernels.
/// Integer: in each block of 32 columns the codes and zero points of a group are multiplied and
/// added exactly in integers; then float32, group after group and block after block with fused
/// multiply-adds. A group's scale and offset are exact in float32, however they are stored (a
/// scale of a table format times its unit is rounded once).
void scalarIntegerProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                          int64_t end, float* out, int64_t stride);
/// Decoded weights times floats, summed in double.
void scalarFloatProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                        int64_t end, float* out, int64_t stride);

} // namespace nibble
