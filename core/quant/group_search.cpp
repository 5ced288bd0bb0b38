#include "core/quant/group_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

bool hasZero(const Format& format) {
    return format.offset == OffsetKind::Zero;
}
bool hasOffset(const Format& format) {
    return format.offset == OffsetKind::Value || format.offset == OffsetKind::Code;
}

/// Multiples of the plain number of steps that are tried, 1 among them: coarse codes gain from
/// clipping the largest values, the more of them share a scale; fine ones only from where the grid
/// happens to fall. FP4 gains from its second-largest level as well, its outer ones lie far apart.
/// Where the levels reach farther down than up, the largest value belongs at the lower end; the
/// upper one is tried with the multiples up to `upper` only.
struct Multiples {
    float step;
    int below, above;
    int upper = std::numeric_limits<int>::max();
};
Multiples multiplesFor(const Format& format, const Levels& levels) {
    if (levels.isTable && levels.isSymmetric())
        return {0.08f, 5, 5};
    if (format.bits == 8)
        return {0.005f, 3, 6};
    if (format.group == 0)
        return {0.1f, 1, 15};
    if (format.bits >= 5)
        return {0.03f, 2, 6};
    if (format.group > 64)
        return {0.07f, 1, 11};
    if (format.bits < 4)
        return {0.1f, 1, 6};
    if (!levels.isTable && format.offset == OffsetKind::None)
        return {0.07f, 0, 3, 0}; // a third of the time for 0.01 dB: what people try first
    return {0.06f, 2, 8};
}

LaneFit startingFit(const Levels& levels) {
    LaneFit fit;
    std::fill_n(fit.grid.low.at, kLanes, levels.low);
    std::fill_n(fit.grid.high.at, kLanes, levels.high);
    return fit;
}

/// The best of what was tried, by how much of Σw·x² the least-squares scale explains.
struct Best {
    LaneFit fit;
    Lanes gain;
    explicit Best(const LaneFit& start) : fit(start) { std::fill_n(gain.at, kLanes, -1.0f); }
};

/// Keeps the least-squares scales for the levels of `sums` where they are better; tells where.
/// (0 / 0 is never better.)
NIBBLE_CLONED void keepScales(Best& best, const GroupBatch::Sums& sums, Lanes& better) {
    for (int i = 0; i < kLanes; ++i) {
        const float scale = sums.xl.at[i] / sums.ll.at[i], gained = scale * sums.xl.at[i];
        const bool more = gained > best.gain.at[i];
        better.at[i] = more ? 1.0f : 0.0f;
        best.gain.at[i] = more ? gained : best.gain.at[i];
        best.fit.grid.scale.at[i] = more ? scale : best.fit.grid.scale.at[i];
    }
}

/// The same with the zero points of `tried`.
NIBBLE_CLONED void keepZeros(Best& best, const LaneFit& tried, const Lanes& better) {
    for (int i = 0; i < kLanes; ++i) {
        const bool more = better.at[i] > 0;
        LaneGrid& grid = best.fit.grid;
        grid.low.at[i] = more ? tried.grid.low.at[i] : grid.low.at[i];
        grid.high.at[i] = more ? tried.grid.high.at[i] : grid.high.at[i];
        best.fit.zero.at[i] = more ? tried.zero.at[i] : best.fit.zero.at[i];
    }
}

/// The same with least-squares offsets.
NIBBLE_CLONED void keepOffsets(Best& best, const GroupBatch::Sums& sums,
                               const GroupBatch::Extent& extent) {
    for (int i = 0; i < kLanes; ++i) {
        const float w = extent.w.at[i], x = extent.wx.at[i], l = sums.l.at[i], xl = sums.xl.at[i],
                    ll = sums.ll.at[i];
        const float determinant = w * ll - l * l, inverse = 1 / determinant;
        const float scale = (w * xl - l * x) * inverse, offset = (ll * x - l * xl) * inverse;
        const float explained = scale * xl + offset * x;
        const float gained = determinant > 1e-5f * w * ll ? explained : -1.0f;
        const bool more = gained > best.gain.at[i];
        best.gain.at[i] = more ? gained : best.gain.at[i];
        best.fit.grid.scale.at[i] = more ? scale : best.fit.grid.scale.at[i];
        best.fit.grid.offset.at[i] = more ? offset : best.fit.grid.offset.at[i];
    }
}

constexpr int kRefinements = 1;

LaneFit searchSymmetric(const Format& format, const Levels& levels, const GroupBatch& batch) {
    LaneFit tried = startingFit(levels);
    Best best(tried);
    Lanes better;
    const bool bothEnds = !levels.isSymmetric();
    Lanes farthest;
    for (int i = 0; i < kLanes; ++i)
        farthest[i] = batch.extent().farthest(i);
    const Multiples multiples = multiplesFor(format, levels);
    for (int step = -multiples.below; step <= multiples.above; ++step)
        for (const float end : {levels.high, levels.low}) {
            if (end == levels.low ? !bothEnds : bothEnds && step > multiples.upper)
                continue;
            const float share = 1 / (end * (1 + multiples.step * static_cast<float>(step)));
            for (int i = 0; i < kLanes; ++i)
                tried.grid.scale.at[i] = farthest.at[i] * share;
            keepScales(best, batch.sums(levels, tried.grid, false), better);
        }
    for (int i = 0; i < kRefinements; ++i)
        keepScales(best, batch.sums(levels, best.fit.grid, false), better);
    return best.fit;
}

/// Scales and offsets that spread the range over the levels with what is clipped at either end in
/// two proportions; `judge` gets each.
template <typename Judge>
void tryRanges(const Format& format, const Levels& levels, const Lanes& low, const Lanes& high,
               Judge&& judge) {
    const Multiples multiples = multiplesFor(format, levels);
    const auto steps = static_cast<float>((1 << format.bits) - 1);
    for (int step = -multiples.below; step <= multiples.above; ++step)
        for (const float clipped : {0.25f, 0.75f}) {
            if (step == 0 && clipped > 0.5f)
                continue; // nothing is clipped
            const float multiple = 1 + multiples.step * static_cast<float>(step);
            Lanes scale, offset;
            for (int i = 0; i < kLanes; ++i) {
                const float range = high[i] - low[i], kept = range / multiple;
                scale[i] = kept / steps;
                offset[i] = low[i] + (range - kept) * clipped;
            }
            judge(scale, offset);
        }
}

LaneFit searchOffset(const Format& format, const Levels& levels, const GroupBatch& batch) {
    LaneFit tried = startingFit(levels);
    Best best(tried);
    const GroupBatch::Extent& extent = batch.extent();
    tryRanges(format, levels, extent.low, extent.high,
              [&](const Lanes& scale, const Lanes& offset) {
                  tried.grid.scale = scale;
                  tried.grid.offset = offset;
                  keepOffsets(best, batch.sums(levels, tried.grid, true), extent);
              });
    for (int i = 0; i < kRefinements; ++i)
        keepOffsets(best, batch.sums(levels, best.fit.grid, true), extent);
    // A range that is lost beside the values is all offset.
    for (int i = 0; i < kLanes; ++i)
        if (best.gain[i] < 0)
            best.fit.grid.offset[i] = extent.low[i];
    return best.fit;
}

LaneFit searchZero(const Format& format, const Levels& levels, const GroupBatch& batch) {
    LaneFit tried = plainScales(format, levels, batch);
    Best best(tried);
    Lanes low, high;
    for (int i = 0; i < kLanes; ++i) {
        low[i] = std::min(0.0f, batch.extent().low[i]);
        high[i] = std::max(0.0f, batch.extent().high[i]);
    }
    const auto most = static_cast<float>((1 << format.bits) - 1);
    const auto keepTried = [&] {
        Lanes better;
        keepScales(best, batch.sums(levels, tried.grid, false), better);
        keepZeros(best, tried, better);
    };
    keepTried();
    tryRanges(format, levels, low, high, [&](const Lanes& scale, const Lanes& offset) {
        for (int i = 0; i < kLanes; ++i) {
            const float zero = scale[i] > 0 ? std::clamp(-offset[i] / scale[i], 0.0f, most) : 0;
            tried.grid.scale[i] = scale[i];
            setZero(format, tried, i, static_cast<int>(zero + 0.5f));
        }
        keepTried();
    });
    for (int i = 0; i < kRefinements; ++i) {
        tried = best.fit;
        keepTried();
    }
    return best.fit;
}

} // namespace

void setZero(const Format& format, LaneFit& fit, int lane, int zero) {
    fit.zero[lane] = static_cast<float>(zero);
    fit.grid.low[lane] = static_cast<float>(-zero);
    fit.grid.high[lane] = static_cast<float>((1 << format.bits) - 1 - zero);
}

LaneFit plainScales(const Format& format, const Levels& levels, const GroupBatch& batch) {
    LaneFit fit = startingFit(levels);
    const GroupBatch::Extent& extent = batch.extent();
    const auto steps = static_cast<float>((1 << format.bits) - 1);
    for (int i = 0; i < kLanes; ++i) {
        if (hasOffset(format)) {
            fit.grid.scale[i] = (extent.high[i] - extent.low[i]) / steps;
            fit.grid.offset[i] = extent.low[i];
        } else if (hasZero(format)) {
            const float low = std::min(0.0f, extent.low[i]), high = std::max(0.0f, extent.high[i]);
            const float scale = (high - low) / steps;
            fit.grid.scale[i] = scale;
            setZero(format, fit, i, scale > 0 ? static_cast<int>(std::round(-low / scale)) : 0);
        } else {
            // The value of largest magnitude gets the outermost level.
            const float end = -levels.low > levels.high ? levels.low : levels.high;
            fit.grid.scale[i] = levels.isSymmetric() ? std::abs(extent.farthest(i)) / end
                                                     : extent.farthest(i) / end;
        }
    }
    return fit;
}

LaneFit searchScales(const Format& format, const Levels& levels, const GroupBatch& batch) {
    if (hasOffset(format))
        return searchOffset(format, levels, batch);
    if (hasZero(format))
        return searchZero(format, levels, batch);
    return searchSymmetric(format, levels, batch);
}

} // namespace nibble
