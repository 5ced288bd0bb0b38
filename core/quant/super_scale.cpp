#include "core/quant/super_scale.h"

#include "core/quant/stored_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

double quotient(double a, double b) {
    return b == 0 ? 0 : a / b;
}

[[gnu::always_inline]] inline float sum(Lanes& lanes) {
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i)
            lanes.at[i] += lanes.at[i + width];
    return lanes.at[0];
}

/// Of the codes nearest to t / super: Σw·(t − code·super)², Σw·t·code and Σw·code².
struct Judged {
    float error, tq, qq;
};
NIBBLE_CLONED void sumCodes(const float* __restrict t, const float* __restrict w, size_t count,
                            float super, const CodeRange& codes, Judged& out) {
    const float inverse = inverseScale(super);
    Lanes errors, tq, qq;
    for (size_t at = 0; at < count; at += kLanes, t += kLanes, w += kLanes)
        for (int i = 0; i < kLanes; ++i) {
            const float q = codes.nearest(t[i] * inverse), lost = t[i] - q * super;
            errors.at[i] += w[i] * lost * lost;
            tq.at[i] += w[i] * t[i] * q;
            qq.at[i] += w[i] * q * q;
        }
    out = {sum(errors), sum(tq), sum(qq)};
}

} // namespace

void SuperScaleSearch::clear() {
    m_count = 0;
    m_far = m_other = m_most = 0;
}

void SuperScaleSearch::add(double target, double weight) {
    if (m_count == m_targets.size()) {
        m_targets.resize(2 * m_count + kLanes);
        m_weights.resize(2 * m_count + kLanes);
    }
    m_targets[m_count] = target;
    m_weights[m_count++] = weight;
    m_most = std::max(m_most, weight);
    if (std::abs(target) > std::abs(m_far)) {
        if ((target < 0) != (m_far < 0))
            m_other = m_far;
        m_far = target;
    } else if ((target < 0) != (m_far < 0) && std::abs(target) > std::abs(m_other)) {
        m_other = target;
    }
}

double SuperScaleSearch::choose(CodeRange codes) {
    if (m_far == 0)
        return 0;
    normalize();
    m_best = 0;
    m_bestError = std::numeric_limits<float>::infinity();
    // Eight bits are so fine that any super-scale is as good as the next.
    constexpr float kMultiples[] = {1.0f, 1.06f, 0.95f};
    const int count = codes.high > 100 ? 1 : 3;
    for (int i = 0; i < count; ++i) {
        judge(judge(1 / (codes.high * kMultiples[i]), codes), codes);
        if (codes.low < 0)
            judge(judge(1 / (codes.low * kMultiples[i]), codes), codes);
        else if (m_other != 0) // without negative codes: the sign that matters more
            judge(judge(m_other / m_far / (codes.high * kMultiples[i]), codes), codes);
    }
    return m_best;
}

/// Divided by the farthest and by the largest weight.
void SuperScaleSearch::normalize() {
    const size_t padded = (m_count + kLanes - 1) / kLanes * kLanes;
    m_t.assign(padded, 0);
    m_w.assign(padded, 0);
    const double scale = 1 / m_far, weight = m_most > 0 ? 1 / m_most : 0;
    for (size_t i = 0; i < m_count; ++i) {
        m_t[i] = static_cast<float>(m_targets[i] * scale);
        m_w[i] = static_cast<float>(m_weights[i] * weight);
    }
}

/// Tries a super-scale in units of the farthest target; gives the one that is best for its codes.
double SuperScaleSearch::judge(double super, CodeRange codes) {
    const double half = nearestHalf(super * m_far).value;
    const auto h = static_cast<float>(half / m_far);
    Judged judged;
    sumCodes(m_t.data(), m_w.data(), m_t.size(), h, codes, judged);
    if (judged.error < m_bestError) {
        m_bestError = judged.error;
        m_best = half;
    }
    return quotient(judged.tq, judged.qq);
}

} // namespace nibble
