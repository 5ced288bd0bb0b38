#pragma once

#include "core/quant/group_batch.h"

#include <vector>

namespace nibble {

/// The least and greatest code of a scale or offset.
struct CodeRange {
    float low, high;
    float nearest(float value) const {
        // Adding and subtracting 1.5 · 2^23 rounds to the nearest even integer.
        constexpr float kRound = 12582912.0f;
        value = value < low ? low : value;
        value = value > high ? high : value;
        return (value + kRound) - kRound;
    }
};

/// Scales (or offsets) that one super-scale is to stand for, and what a square of theirs is worth.
class SuperScaleSearch {
public:
    void clear();
    void add(double target, double weight);
    /// The half h for which codes · h come closest to the targets.
    double choose(CodeRange codes);

private:
    void normalize();
    double judge(double super, CodeRange codes);

    size_t m_count = 0;
    /// The target of largest magnitude, the largest of the other sign, and the largest weight.
    double m_far = 0, m_other = 0, m_most = 0;
    double m_best = 0;
    float m_bestError = 0;
    std::vector<double> m_targets, m_weights;
    std::vector<float> m_t, m_w; ///< the same normalised, padded to whole lanes
};

} // namespace nibble
