#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Keeps the columns of a matrix in f16 whose input reached the threshold on the calibration text,
/// one in 32 at most, and rounds the others (Dettmers et al. 2022, with outliers that are known
/// beforehand).
extern const Method kLlmInt8;

} // namespace nibble
