#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Half-quadratic quantization (Badri and Shaji 2023): no data; the zero point is a float, chosen
/// so that most errors vanish instead of their squares being small.
extern const Method kHqq;

} // namespace nibble
