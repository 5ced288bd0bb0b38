#pragma once

#include "core/tensor/format.h"

#include <cstdint>

namespace nibble {

/// A number as a format stores it: raw bits and what they stand for.
struct StoredNumber {
    uint32_t bits = 0;
    double value = 0;
};

/// The nearest finite half.
StoredNumber nearestHalf(double value);
/// The nearest finite scale of a float kind; of E8M0 and E4M3, which have no sign, the nearest
/// positive one.
StoredNumber nearestScale(ScaleKind kind, double value);
/// What an 8-bit float scale stands for.
double valueOfScaleByte(ScaleKind kind, uint8_t bits);
/// The largest one with which all of FP4 is finite; their bits are ordered like their values.
int largestScaleByte(ScaleKind kind);

} // namespace nibble
