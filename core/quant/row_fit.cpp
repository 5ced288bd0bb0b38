#include "core/quant/row_fit.h"

#include "core/quant/group_fit.h"

#include <algorithm>

namespace nibble {

const char* cannotFit(const Format& format) {
    return cannotFitGroups(format);
}

RowFit fitRow(const Format& format, std::span<const float> x, std::span<const float> weights,
              uint8_t* codes) {
    const auto cols = static_cast<int64_t>(x.size());
    const auto groups = static_cast<size_t>(format.groupCount(cols));
    const auto length = static_cast<size_t>(format.groupLength(cols));
    RowFit fit;
    fit.scales.resize(groups);
    fit.offsets.resize(format.offset == OffsetKind::None ? 0 : groups);
    for (size_t group = 0; group < groups; ++group) {
        const size_t at = group * length, count = std::min(length, x.size() - at);
        const GroupFit found =
            fitSearched(format, x.subspan(at, count), weights.subspan(at, count), codes + at);
        fit.scales[group] = found.scale;
        if (!fit.offsets.empty())
            fit.offsets[group] = found.offset;
    }
    return fit;
}

void storeRow(TensorBuilder& out, int64_t row, const RowFit& fit, const uint8_t* codes) {
    for (size_t i = 0; i < fit.scales.size(); ++i)
        out.setScale(row, static_cast<int64_t>(i), fit.scales[i]);
    for (size_t i = 0; i < fit.offsets.size(); ++i)
        out.setOffset(row, static_cast<int64_t>(i), fit.offsets[i]);
    for (size_t i = 0; i < fit.superScales.size(); ++i)
        out.setSuperScale(row, static_cast<int64_t>(i), fit.superScales[i]);
    for (size_t i = 0; i < fit.superOffsets.size(); ++i)
        out.setSuperOffset(row, static_cast<int64_t>(i), fit.superOffsets[i]);
    out.setCodes(row, codes);
}

} // namespace nibble
