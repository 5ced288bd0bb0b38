#include "core/quant/row_fit.h"

#include <algorithm>
#include <bit>

namespace nibble {
RowGrid::RowGrid(const Format& format, int64_t cols, const RowFit& fit)
    : m_shift(format.group == 0 ? 62 : std::countr_zero(format.group)),
      m_hasOffset(format.offset == OffsetKind::Value || format.offset == OffsetKind::Code) {
    const Levels levels(format);
    for (int64_t group = 0; group < format.groupCount(cols); ++group) {
        const GroupValues values = groupValues(format, cols, fit, group);
        if (levels.isTable) {
            m_sorted.push_back(sorted(levels, values.scale));
        } else {
            const GroupCodes codes = groupCodes(format, levels, values);
            m_integers.push_back({codes, inverseScale(codes.scale)});
        }
    }
}

RowGrid::Sorted RowGrid::sorted(const Levels& levels, double scale) {
    Sorted out;
    for (size_t i = 0; i < 16; ++i) {
        const size_t from = scale < 0 ? 15 - i : i;
        out.values[i] = static_cast<float>(scale * double(levels.values[from]));
        out.codes[i] = static_cast<uint8_t>(levels.codes[from]);
    }
    // Two zeros are one code.
    for (size_t i = 1; i < 16; ++i)
        if (out.codes[i] == out.codes[i - 1])
            out.values[i] = out.values[i - 1] = 0;
    for (size_t i = 0; i < 15; ++i)
        out.thresholds[i] =
            static_cast<float>((double(out.values[i]) + double(out.values[i + 1])) / 2);
    return out;
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
    const Integers& u = m_integers[group];
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest even integer.
    constexpr float kMagic = 12582912.0f;
    const float steps = std::clamp((x - u.offset) * u.inverse, u.low, u.high);
    const float level = (steps + kMagic) - kMagic;
    float value = u.scale * level;
    // Adding zero where there is no offset would turn −0 into +0.
    if (m_hasOffset)
        value += u.offset;
    return {static_cast<uint8_t>(static_cast<int>(level) + u.zero), value};
}

} // namespace nibble
