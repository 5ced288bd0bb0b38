#include "core/quant/row_fit.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

GroupValues valuesOf(const Format& format, int64_t cols, const RowFit& fit, int64_t group) {
    const auto at = static_cast<size_t>(group);
    GroupBits bits{.scale = fit.scales[at]};
    if (!fit.offsets.empty())
        bits.offset = fit.offsets[at];
    if (format.super != 0) {
        const auto super = static_cast<size_t>(group * format.groupLength(cols) / format.super);
        if (!fit.superScales.empty())
            bits.superScale = fit.superScales[super];
        if (!fit.superOffsets.empty())
            bits.superOffset = fit.superOffsets[super];
    }
    return groupValues(format, bits);
}

} // namespace

RowGrid::RowGrid(const Format& format, int64_t cols, const RowFit& fit)
    : m_shift(format.group == 0 ? 62 : std::countr_zero(format.group)),
      m_hasOffset(format.offset == OffsetKind::Value || format.offset == OffsetKind::Code) {
    for (int64_t group = 0; group < format.groupCount(cols); ++group) {
        const GroupValues values = valuesOf(format, cols, fit, group);
        if (format.code == CodeKind::Table) {
            float decoded[16];
            for (size_t code = 0; code < 16; ++code)
                decoded[code] = static_cast<float>(values.scale * format.table->exact[code]);
            Sorted sorted;
            std::iota(sorted.codes, sorted.codes + 16, uint8_t(0));
            std::stable_sort(sorted.codes, sorted.codes + 16,
                             [&](uint8_t a, uint8_t b) { return decoded[a] < decoded[b]; });
            for (size_t i = 0; i < 16; ++i)
                sorted.values[i] = decoded[sorted.codes[i]];
            for (size_t i = 0; i < 15; ++i)
                sorted.thresholds[i] = static_cast<float>(
                    (double(sorted.values[i]) + double(sorted.values[i + 1])) / 2);
            m_sorted.push_back(sorted);
            continue;
        }
        const bool isByte = format.bits == 8;
        const auto scale = static_cast<float>(format.unit * values.scale);
        const int least = isByte ? (format.offset == OffsetKind::Zero ? -128 : -127) : 0,
                  most = isByte ? 127 : (1 << format.bits) - 1;
        // A scale so small that its inverse is infinite has one value within reach: zero.
        const float inverse = 1 / scale;
        m_uniform.push_back({.scale = scale,
                             .inverse = std::isfinite(inverse) ? inverse : 0,
                             .offset = values.offset,
                             .lowest = static_cast<float>(least - values.zero),
                             .highest = static_cast<float>(most - values.zero),
                             .zero = values.zero});
    }
}

RowGrid::Nearest RowGrid::nearest(int64_t col, float x) const {
    const auto group = static_cast<size_t>(col >> m_shift);
    if (!m_sorted.empty()) {
        const Sorted& s = m_sorted[group];
        size_t i = x > s.thresholds[7] ? 8 : 0;
        i += x > s.thresholds[i + 3] ? 4 : 0;
        i += x > s.thresholds[i + 1] ? 2 : 0;
        i += x > s.thresholds[i] ? 1 : 0;
        return {s.codes[i], s.values[i]};
    }
    const Uniform& u = m_uniform[group];
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest even integer.
    constexpr float kMagic = 12582912.0f;
    const float steps = std::clamp((x - u.offset) * u.inverse, u.lowest, u.highest);
    const float level = (steps + kMagic) - kMagic;
    float value = u.scale * level;
    // Adding zero where there is no offset would turn −0 into +0.
    if (m_hasOffset)
        value += u.offset;
    return {static_cast<uint8_t>(static_cast<int>(level) + u.zero), value};
}

} // namespace nibble
