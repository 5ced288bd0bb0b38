#include "core/quant/super_fit.h"

#include "core/quant/stored_scale.h"
#include "core/quant/super_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

CodeRange scaleCodes(const Format& format) {
    if (format.scaleBits == 8)
        return {-128, 127};
    return {static_cast<float>(-format.scaleZero),
            static_cast<float>((1 << format.scaleBits) - 1 - format.scaleZero)};
}
CodeRange offsetCodes(const Format& format) {
    return {0, static_cast<float>((1 << format.offsetBits) - 1)};
}

/// Codes of one batch and what they are multiplied with, in the batch's magnitudes. Such products
/// are exact in float32.
struct LaneCodes {
    Lanes scale, offset, superScale, superOffset;
};

NIBBLE_CLONED void multiply(const LaneCodes& codes, const Lanes& scale, const Lanes& offset,
                            LaneGrid& grid) {
    for (int i = 0; i < kLanes; ++i) {
        grid.scale.at[i] = scale.at[i] * codes.superScale.at[i];
        grid.offset.at[i] = offset.at[i] * codes.superOffset.at[i];
    }
}

/// Codes where they lose less than the best so far.
NIBBLE_CLONED void keepLess(Lanes& errors, LaneCodes& best, const Lanes& lost, const Lanes& scale,
                            const Lanes& offset) {
    for (int i = 0; i < kLanes; ++i) {
        const bool less = lost.at[i] < errors.at[i];
        errors.at[i] = less ? lost.at[i] : errors.at[i];
        best.scale.at[i] = less ? scale.at[i] : best.scale.at[i];
        best.offset.at[i] = less ? offset.at[i] : best.offset.at[i];
    }
}

/// The codes `delta` beside others.
NIBBLE_CLONED void shift(const Lanes& codes, float delta, const CodeRange& range, Lanes& out) {
    for (int i = 0; i < kLanes; ++i)
        out.at[i] = range.nearest(codes.at[i] + delta);
}

/// The offset codes that are best with given scales and levels.
NIBBLE_CLONED void bestOffsets(const GroupBatch::Extent& extent, const Lanes& scale,
                               const Lanes& levels, const Lanes& superOffset,
                               const CodeRange& range, Lanes& out) {
    for (int i = 0; i < kLanes; ++i) {
        const float best = (extent.wx.at[i] - scale.at[i] * levels.at[i]) / extent.w.at[i];
        out.at[i] = range.nearest(best * inverseScale(superOffset.at[i]));
    }
}

/// Numbers divided by super-scales and rounded to codes.
NIBBLE_CLONED void nearestCodes(const Lanes& own, const Lanes& super, const CodeRange& range,
                                Lanes& out) {
    for (int i = 0; i < kLanes; ++i)
        out.at[i] = range.nearest(own.at[i] * inverseScale(super.at[i]));
}

/// One group's lane, and what an error in it is worth beside those of other groups.
struct Place {
    size_t batch;
    int lane;
    double weightUnit, magnitude;
};

class Fitter {
public:
    Fitter(const Format& format, const Levels& levels, std::span<const GroupBatch> batches,
           int64_t perSuper)
        : m_format(format), m_levels(levels), m_batches(batches),
          m_perSuper(static_cast<size_t>(perSuper)), m_hasOffset(format.offset == OffsetKind::Code),
          m_scaleCodes(scaleCodes(format)), m_offsetCodes(offsetCodes(format)) {
        m_codes.resize(batches.size());
        m_errors.resize(batches.size());
        m_sums.resize(batches.size());
        m_places.clear();
        for (size_t batch = 0; batch < batches.size(); ++batch)
            for (int group = 0; group < batches[batch].groups(); ++group)
                addPlace(batch, batches[batch].laneOf(group));
        m_supers.assign((m_places.size() + m_perSuper - 1) / m_perSuper, {});
        m_found.scales.resize(m_places.size());
        m_found.offsets.resize(format.offset == OffsetKind::None ? 0 : m_places.size());
        m_found.superScales.resize(m_supers.size());
        m_found.superOffsets.resize(m_hasOffset ? m_supers.size() : 0);
        m_foundErrors.assign(m_supers.size(), std::numeric_limits<double>::infinity());
    }

    SuperFit fit(ScaleSearch search) {
        m_fits.clear();
        for (const GroupBatch& batch : m_batches)
            m_fits.push_back(plainScales(m_format, m_levels, batch));
        startPlain();
        takeErrors();
        keepBetter();
        if (search == ScaleSearch::Largest)
            return std::move(m_found);

        m_fits.clear();
        for (const GroupBatch& batch : m_batches)
            m_fits.push_back(searchScales(m_format, m_levels, batch));
        startBest();
        for (int round = 0; round < kRounds; ++round) {
            for (size_t batch = 0; batch < m_batches.size(); ++batch)
                chooseCodes(batch);
            keepBetter();
            if (round + 1 == kRounds || !refitSupers())
                break;
        }
        return std::move(m_found);
    }

private:
    static constexpr int kRounds = 2;
    struct Super {
        double scale = 0, offset = 0; ///< halves
    };

    std::span<const Place> placesOf(size_t super) const {
        const size_t begin = super * m_perSuper;
        return std::span(m_places).subspan(begin, std::min(m_perSuper, m_places.size() - begin));
    }
    void addPlace(size_t batch, int lane) {
        m_places.push_back({batch, lane, m_batches[batch].weightMagnitude(lane),
                            m_batches[batch].magnitude(lane)});
    }

    void startPlain() {
        for (size_t super = 0; super < m_supers.size(); ++super) {
            double scale = 0, offset = 0;
            const auto farther = [](double a, double b) {
                return std::abs(b) > std::abs(a) ? b : a;
            };
            for (const Place& place : placesOf(super)) {
                scale = farther(scale, ownScale(place));
                offset = farther(offset, ownOffset(place));
            }
            m_supers[super].scale = nearestHalf(scale / double(m_scaleCodes.high)).value;
            if (m_hasOffset)
                m_supers[super].offset = nearestHalf(offset / double(m_offsetCodes.high)).value;
        }
        roundToSupers();
    }

    /// Super-scales nearest to the groups' own scales and offsets, and codes nearest to those.
    void startBest() {
        for (size_t batch = 0; batch < m_batches.size(); ++batch)
            m_sums[batch] = m_batches[batch].sums(m_levels, m_fits[batch].grid, m_hasOffset);
        for (size_t super = 0; super < m_supers.size(); ++super) {
            m_ofScales.clear();
            m_ofOffsets.clear();
            for (const Place& place : placesOf(super)) {
                const double unit = place.weightUnit;
                m_ofScales.add(ownScale(place), unit * double(m_sums[place.batch].ll[place.lane]));
                if (m_hasOffset)
                    m_ofOffsets.add(ownOffset(place),
                                    unit * double(m_batches[place.batch].extent().w[place.lane]));
            }
            m_supers[super].scale = m_ofScales.choose(m_scaleCodes);
            if (m_hasOffset)
                m_supers[super].offset = m_ofOffsets.choose(m_offsetCodes);
        }
        roundToSupers();
    }
    double ownScale(const Place& place) const {
        return double(m_fits[place.batch].grid.scale[place.lane]) * place.magnitude;
    }
    double ownOffset(const Place& place) const {
        return double(m_fits[place.batch].grid.offset[place.lane]) * place.magnitude;
    }

    void roundToSupers() {
        spreadSupers();
        for (size_t batch = 0; batch < m_batches.size(); ++batch) {
            LaneCodes& codes = m_codes[batch];
            const LaneGrid& own = m_fits[batch].grid;
            nearestCodes(own.scale, codes.superScale, m_scaleCodes, codes.scale);
            nearestCodes(own.offset, codes.superOffset, m_offsetCodes, codes.offset);
        }
    }
    /// Super-scales into the lanes of their groups.
    void spreadSupers() {
        for (size_t super = 0; super < m_supers.size(); ++super)
            for (const Place& place : placesOf(super)) {
                LaneCodes& codes = m_codes[place.batch];
                const double inverse = m_batches[place.batch].inverseMagnitude(place.lane);
                const int end = place.lane + m_batches[place.batch].laneOf(1);
                for (int lane = place.lane; lane < end; ++lane) {
                    codes.superScale[lane] = static_cast<float>(m_supers[super].scale * inverse);
                    codes.superOffset[lane] = static_cast<float>(m_supers[super].offset * inverse);
                }
            }
    }

    /// The batch's grid for these codes; the zero points stay.
    const LaneGrid& gridOf(size_t batch, const Lanes& scaleCode, const Lanes& offsetCode) {
        LaneGrid& grid = m_fits[batch].grid;
        multiply(m_codes[batch], scaleCode, offsetCode, grid);
        return grid;
    }
    void takeErrors() {
        for (size_t batch = 0; batch < m_batches.size(); ++batch)
            m_errors[batch] = m_batches[batch].errors(
                m_levels, gridOf(batch, m_codes[batch].scale, m_codes[batch].offset), m_hasOffset);
    }

    /// The best of each group's codes and those next to them.
    void chooseCodes(size_t batch) {
        LaneCodes& codes = m_codes[batch];
        LaneCodes best = codes;
        Lanes& errors = m_errors[batch];
        std::fill_n(errors.at, kLanes, std::numeric_limits<float>::infinity());
        const auto tryCodes = [&](const Lanes& scale, const Lanes& offset) {
            const Lanes lost =
                m_batches[batch].errors(m_levels, gridOf(batch, scale, offset), m_hasOffset);
            keepLess(errors, best, lost, scale, offset);
        };
        for (const float delta : {0.0f, -1.0f, 1.0f}) {
            Lanes scale;
            shift(codes.scale, delta, m_scaleCodes, scale);
            tryCodes(scale, m_hasOffset ? offsetFor(batch, scale) : codes.offset);
        }
        codes = best;
        if (m_hasOffset)
            for (const float delta : {-1.0f, 1.0f}) {
                Lanes offset;
                shift(codes.offset, delta, m_offsetCodes, offset);
                tryCodes(codes.scale, offset);
            }
        codes = best;
    }

    /// The offset codes that are best with these scale codes.
    Lanes offsetFor(size_t batch, const Lanes& scale) {
        const LaneCodes& codes = m_codes[batch];
        const LaneGrid& grid = gridOf(batch, scale, codes.offset);
        const GroupBatch::Sums sums = m_batches[batch].sums(m_levels, grid, true);
        Lanes offset;
        bestOffsets(m_batches[batch].extent(), grid.scale, sums.l, codes.superOffset, m_offsetCodes,
                    offset);
        return offset;
    }

    /// Super-scales by least squares with all codes fixed. Whether any changed.
    bool refitSupers() {
        for (size_t batch = 0; batch < m_batches.size(); ++batch)
            m_sums[batch] = m_batches[batch].sums(
                m_levels, gridOf(batch, m_codes[batch].scale, m_codes[batch].offset), m_hasOffset);
        bool changed = false;
        for (size_t super = 0; super < m_supers.size(); ++super) {
            const Super refitted = leastSquares(super);
            Super& s = m_supers[super];
            changed |= s.scale != refitted.scale || s.offset != refitted.offset;
            s = refitted;
        }
        spreadSupers();
        return changed;
    }

    Super leastSquares(size_t super) const {
        double ss = 0, so = 0, oo = 0, sx = 0, ox = 0; // of scale codes, offset codes, values
        for (const Place& place : placesOf(super)) {
            const int lane = place.lane;
            const GroupBatch::Extent& extent = m_batches[place.batch].extent();
            const GroupBatch::Sums& sums = m_sums[place.batch];
            const double unit = place.weightUnit, q = m_codes[place.batch].scale[lane],
                         m = m_codes[place.batch].offset[lane];
            ss += unit * q * q * double(sums.ll[lane]);
            sx += unit * q * double(sums.xl[lane]) * place.magnitude;
            if (m_hasOffset) {
                so += unit * q * m * double(sums.l[lane]);
                oo += unit * m * m * double(extent.w[lane]);
                ox += unit * m * double(extent.wx[lane]) * place.magnitude;
            }
        }
        Super s = m_supers[super];
        const double determinant = ss * oo - so * so;
        if (determinant > 1e-6 * ss * oo) {
            s.scale = nearestHalf((sx * oo - ox * so) / determinant).value;
            s.offset = nearestHalf((ox * ss - sx * so) / determinant).value;
        } else if (ss > 0) {
            s.scale = nearestHalf((sx - so * s.offset) / ss).value;
        }
        return s;
    }

    /// Keeps what the supers have now where it is better than what was kept before.
    void keepBetter() {
        for (size_t super = 0; super < m_supers.size(); ++super) {
            double error = 0;
            for (const Place& place : placesOf(super))
                error += double(m_errors[place.batch][place.lane]) * place.weightUnit *
                         place.magnitude * place.magnitude;
            if (!(error < m_foundErrors[super]))
                continue;
            m_foundErrors[super] = error;
            m_found.superScales[super] =
                static_cast<uint16_t>(nearestHalf(m_supers[super].scale).bits);
            if (m_hasOffset)
                m_found.superOffsets[super] =
                    static_cast<uint16_t>(nearestHalf(m_supers[super].offset).bits);
            size_t i = super * m_perSuper;
            for (const Place& place : placesOf(super)) {
                m_found.scales[i] = static_cast<int>(m_codes[place.batch].scale[place.lane]);
                if (!m_found.offsets.empty())
                    m_found.offsets[i] =
                        static_cast<int>(m_hasOffset ? m_codes[place.batch].offset[place.lane]
                                                     : m_fits[place.batch].zero[place.lane]);
                ++i;
            }
        }
    }

    const Format& m_format;
    const Levels& m_levels;
    std::span<const GroupBatch> m_batches;
    size_t m_perSuper;
    bool m_hasOffset;
    CodeRange m_scaleCodes, m_offsetCodes;
    SuperFit m_found;
    std::vector<double> m_foundErrors; ///< [super]
    // Room that is used again: rows are many, and a super is little work.
    static thread_local std::vector<Place> m_places; ///< [group]
    static thread_local std::vector<Super> m_supers;
    static thread_local std::vector<LaneFit> m_fits; ///< [batch], as the others
    static thread_local std::vector<LaneCodes> m_codes;
    static thread_local std::vector<Lanes> m_errors;
    static thread_local std::vector<GroupBatch::Sums> m_sums;
    static thread_local SuperScaleSearch m_ofScales, m_ofOffsets;
};
thread_local std::vector<Place> Fitter::m_places;
thread_local std::vector<Fitter::Super> Fitter::m_supers;
thread_local std::vector<LaneFit> Fitter::m_fits;
thread_local std::vector<LaneCodes> Fitter::m_codes;
thread_local std::vector<Lanes> Fitter::m_errors;
thread_local std::vector<GroupBatch::Sums> Fitter::m_sums;
thread_local SuperScaleSearch Fitter::m_ofScales, Fitter::m_ofOffsets;

} // namespace

SuperFit fitSupers(const Format& format, const Levels& levels, std::span<const GroupBatch> batches,
                   int64_t perSuper, ScaleSearch search) {
    return Fitter(format, levels, batches, perSuper).fit(search);
}

} // namespace nibble
