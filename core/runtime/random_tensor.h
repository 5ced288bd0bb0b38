#pragma once

#include "core/base/random.h"
#include "core/tensor/tensor.h"

namespace nibble {

/// Random codes with scales of ordinary size: what kernels are checked and timed on.
Tensor randomTensor(const Format& format, int64_t rows, int64_t cols, Random& random);

} // namespace nibble
