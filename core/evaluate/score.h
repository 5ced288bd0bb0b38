#pragma once

#include "core/tokenizer/tokenizer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace nibble {

/// What one scored position gives.
struct Scored {
    double nll = 0, baseNll = 0, kld = 0;
    bool sameTop = false;
};

/// Of one position's logits, and the base's (null = there is none), in float64.
Scored score(const float* variant, const float* base, size_t vocabulary, TokenId target);

/// Mean and standard error of the mean.
struct Mean {
    double value = 0, error = 0;
};
template <typename Each, typename Of>
Mean meanOf(const std::vector<Each>& all, Of of) {
    double sum = 0, squares = 0;
    for (const Each& each : all) {
        sum += of(each);
        squares += of(each) * of(each);
    }
    const double n = static_cast<double>(all.size());
    const double mean = n > 0 ? sum / n : 0;
    const double variance = n > 1 ? std::max(0.0, (squares / n - mean * mean) / (n - 1)) : 0;
    return {mean, std::sqrt(variance)};
}

} // namespace nibble
