#include "core/quant/row_fit.h"

#include "core/quant/group_search.h"
#include "core/quant/stored_scale.h"
#include "core/quant/super_fit.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

bool isByteScale(ScaleKind kind) {
    return kind == ScaleKind::E8M0 || kind == ScaleKind::E4M3;
}

/// nearestHalf of each lane, in the batch's magnitudes, and its bits.
void nearestHalves(const Lanes& wanted, const GroupBatch& batch, Lanes& rounded, uint32_t* bits) {
    float values[kLanes];
    for (int lane = 0; lane < kLanes; ++lane)
        values[lane] = static_cast<float>(
            std::clamp(double(wanted.at[lane]) * batch.magnitude(lane), -65504.0, 65504.0));
    roundToHalves(values, bits);
    for (int lane = 0; lane < kLanes; ++lane)
        rounded.at[lane] = static_cast<float>(double(values[lane]) * batch.inverseMagnitude(lane));
}

/// Scales and offsets of a batch as stored.
struct StoredFit {
    LaneFit fit;
    std::array<uint32_t, kLanes> scales = {};
    std::array<uint16_t, kLanes> offsets = {};
    Lanes errors;

    StoredFit(const Format& format, const GroupBatch& batch, const LaneFit& wanted) : fit(wanted) {
        if (format.scale == ScaleKind::F16 && format.offset == OffsetKind::None) {
            nearestHalves(wanted.grid.scale, batch, fit.grid.scale, scales.data());
            return;
        }
        for (int lane = 0; lane < kLanes; ++lane) {
            const auto at = static_cast<size_t>(lane);
            double value = double(wanted.grid.scale[lane]) * batch.magnitude(lane);
            if (std::abs(value) > 1e35) { // no level may become infinite, nor its rounded scale
                const double most = 0.999 * double(std::numeric_limits<float>::max()) /
                                    std::max(-wanted.grid.low[lane], wanted.grid.high[lane]);
                value = std::clamp(value, -most, most);
            }
            const StoredNumber scale = nearestScale(format.scale, value);
            scales[at] = scale.bits;
            fit.grid.scale[lane] = static_cast<float>(scale.value * batch.inverseMagnitude(lane));
            if (format.offset == OffsetKind::Zero)
                offsets[at] = static_cast<uint16_t>(wanted.zero[lane]);
            if (format.offset == OffsetKind::Value) {
                const StoredNumber offset =
                    nearestHalf(double(wanted.grid.offset[lane]) * batch.magnitude(lane));
                offsets[at] = static_cast<uint16_t>(offset.bits);
                fit.grid.offset[lane] =
                    static_cast<float>(offset.value * batch.inverseMagnitude(lane));
            }
        }
    }

    void judge(const Format& format, const Levels& levels, const GroupBatch& batch) {
        errors = batch.errors(levels, fit.grid, format.offset == OffsetKind::Value);
    }
    /// Whether what the search takes for best may not be it: rounding to normal halves loses
    /// nothing beside codes of few bits; the search sees no errors as small as those of eight.
    bool isUncertain(const Format& format, const GroupBatch& batch) const {
        if (format.scale != ScaleKind::F16 || format.offset != OffsetKind::None || format.bits == 8)
            return true;
        constexpr uint32_t kExponent = 0x7c00;
        return std::any_of(scales.begin(), scales.begin() + batch.laneOf(batch.groups()),
                           [](uint32_t bits) { return (bits & kExponent) == 0; });
    }

    void takeBetter(const StoredFit& other) {
        for (int lane = 0; lane < kLanes; ++lane) {
            if (!(other.errors[lane] < errors[lane]))
                continue;
            const auto at = static_cast<size_t>(lane);
            errors[lane] = other.errors[lane];
            scales[at] = other.scales[at];
            offsets[at] = other.offsets[at];
        }
    }
};

/// Scales that are floats of some kind.
StoredFit fitFloats(const Format& format, const Levels& levels, const GroupBatch& batch,
                    ScaleSearch search) {
    const auto plain = [&] { return StoredFit(format, batch, plainScales(format, levels, batch)); };
    if (search == ScaleSearch::Largest)
        return plain();
    StoredFit found(format, batch, searchScales(format, levels, batch));
    if (!found.isUncertain(format, batch))
        return found; // the plain scales were among those tried
    StoredFit stored = plain();
    stored.judge(format, levels, batch);
    found.judge(format, levels, batch);
    stored.takeBetter(found);
    return stored;
}

/// Scales of so few bits that all which come into question are tried: from well above the plain
/// one, where the second-largest level takes the largest value, to where many values are clipped.
StoredFit fitBytes(const Format& format, const Levels& levels, const GroupBatch& batch,
                   ScaleSearch search) {
    StoredFit stored(format, batch, plainScales(format, levels, batch));
    if (search == ScaleSearch::Largest)
        return stored;
    stored.judge(format, levels, batch);
    const auto plain = stored.scales;
    StoredFit tried = stored;
    const int below = format.scale == ScaleKind::E8M0 ? 1 : 4;
    const int above = format.scale == ScaleKind::E8M0 ? 1 : 6;
    for (int step = -below; step <= above; ++step) {
        if (step == 0)
            continue;
        for (int lane = 0; lane < kLanes; ++lane) {
            const auto at = static_cast<size_t>(lane);
            const int bits =
                std::clamp(static_cast<int>(plain[at]) + step, 0, largestScaleByte(format.scale));
            tried.scales[at] = static_cast<uint32_t>(bits);
            tried.fit.grid.scale[lane] =
                static_cast<float>(valueOfScaleByte(format.scale, static_cast<uint8_t>(bits)) *
                                   batch.inverseMagnitude(lane));
        }
        tried.judge(format, levels, batch);
        stored.takeBetter(tried);
    }
    return stored;
}

/// A row cut into batches of up to sixteen groups.
class Row {
public:
    Row(const Format& format, std::span<const float> x, std::span<const float> weights)
        : m_x(x), m_weights(weights), m_length(format.groupLength(static_cast<int64_t>(x.size()))),
          m_groups(format.groupCount(static_cast<int64_t>(x.size()))) {
        while (m_parts * 2 * m_groups <= kLanes)
            m_parts *= 2;
        if (!weights.empty() && areEqual(weights))
            m_weights = {};
    }
    int64_t groupsPerBatch() const { return kLanes / m_parts; }
    int64_t batches() const { return (m_groups + groupsPerBatch() - 1) / groupsPerBatch(); }
    void assign(int64_t index, GroupBatch& batch) const {
        const auto at = static_cast<size_t>(index * groupsPerBatch() * m_length);
        const size_t count =
            std::min(static_cast<size_t>(groupsPerBatch() * m_length), m_x.size() - at);
        batch.assign(m_x.subspan(at, count),
                     m_weights.empty() ? m_weights : m_weights.subspan(at, count), m_length,
                     m_parts);
    }

private:
    std::span<const float> m_x, m_weights;
    int64_t m_length, m_groups;
    int m_parts = 1;
};

void fitPlainRow(const Format& format, const Levels& levels, const Row& row, ScaleSearch search,
                 RowFit& out) {
    thread_local GroupBatch batch;
    for (int64_t index = 0; index < row.batches(); ++index) {
        row.assign(index, batch);
        const StoredFit stored = isByteScale(format.scale)
                                     ? fitBytes(format, levels, batch, search)
                                     : fitFloats(format, levels, batch, search);
        for (int group = 0; group < batch.groups(); ++group) {
            const auto lane = static_cast<size_t>(batch.laneOf(group));
            out.scales.push_back(stored.scales[lane]);
            if (format.offset != OffsetKind::None)
                out.offsets.push_back(stored.offsets[lane]);
        }
    }
}

void fitSuperRow(const Format& format, const Levels& levels, const Row& row, int64_t cols,
                 ScaleSearch search, RowFit& out) {
    thread_local std::vector<GroupBatch> batches;
    const bool wholeRow = format.super == Format::kWholeRow;
    const int64_t together = wholeRow ? row.batches() : 1;
    const int64_t perSuper = wholeRow ? format.groupCount(cols) : format.super / format.group;
    batches.resize(static_cast<size_t>(together));
    for (int64_t first = 0; first < row.batches(); first += together) {
        for (size_t i = 0; i < batches.size(); ++i)
            row.assign(first + static_cast<int64_t>(i), batches[i]);
        const SuperFit stored = fitSupers(format, levels, batches, perSuper, search);
        const uint32_t mask = (1u << format.scaleBits) - 1;
        for (const int scale : stored.scales)
            out.scales.push_back(static_cast<uint32_t>(scale + format.scaleZero) & mask);
        for (const int offset : stored.offsets)
            out.offsets.push_back(static_cast<uint16_t>(offset));
        out.superScales.insert(out.superScales.end(), stored.superScales.begin(),
                               stored.superScales.end());
        out.superOffsets.insert(out.superOffsets.end(), stored.superOffsets.begin(),
                                stored.superOffsets.end());
    }
}

} // namespace

const char* cannotFit(const Format& format) {
    if (format.isFloat())
        return "it holds floats, which are converted";
    if (format.bits == 2 && format.zero == 1)
        return "ternary weights come from training, not from rounding";
    return nullptr;
}

RowFit fitRow(const Format& format, std::span<const float> x, std::span<const float> weights,
              uint8_t* codes, ScaleSearch search) {
    const auto cols = static_cast<int64_t>(x.size());
    const int64_t length = format.groupLength(cols);
    const Levels levels(format);
    const Row row(format, x, weights);
    RowFit fit;
    if (format.super != 0)
        fitSuperRow(format, levels, row, cols, search, fit);
    else
        fitPlainRow(format, levels, row, search, fit);
    for (int64_t group = 0; group < format.groupCount(cols); ++group)
        encodeGroup(levels, groupCodes(format, levels, groupValues(format, cols, fit, group)),
                    x.data() + group * length, std::min(length, cols - group * length),
                    codes + group * length);
    return fit;
}

GroupValues groupValues(const Format& format, int64_t cols, const RowFit& fit, int64_t group) {
    const auto at = static_cast<size_t>(group);
    GroupBits bits{.scale = fit.scales[at]};
    if (!fit.offsets.empty())
        bits.offset = fit.offsets[at];
    if (format.super != 0) {
        const auto super = static_cast<size_t>(group * format.groupLength(cols) / format.super);
        bits.superScale = fit.superScales[super];
        if (!fit.superOffsets.empty())
            bits.superOffset = fit.superOffsets[super];
    }
    return groupValues(format, bits);
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
