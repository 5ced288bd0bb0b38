#include "core/quant/super_fit.h"

#include "core/base/half.h"
#include "core/quant/stored_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

struct CodeRange {
    int low, high;
    int clamp(double value) const {
        // Not std::clamp of an int: a quotient by a tiny super-scale exceeds it.
        return static_cast<int>(std::nearbyint(std::clamp(value, double(low), double(high))));
    }
};

CodeRange scaleCodes(const Format& format) {
    if (format.scaleBits == 8)
        return {-128, 127};
    return {-format.scaleZero, (1 << format.scaleBits) - 1 - format.scaleZero};
}
CodeRange offsetCodes(const Format& format) {
    return {0, (1 << format.offsetBits) - 1};
}

double quotient(double a, double b) {
    return b == 0 ? 0 : a / b;
}

/// The one of largest magnitude.
double farthest(std::span<const double> values) {
    double far = 0;
    for (const double value : values)
        far = std::abs(value) > std::abs(far) ? value : far;
    return far;
}

/// The half h for which codes · h come closest to the targets, Σ weight · (target − code · h)².
double chooseSuper(std::span<const double> targets, std::span<const double> weights,
                   CodeRange codes) {
    double most = 0, least = 0;
    for (const double t : targets) {
        most = std::max(most, t);
        least = std::min(least, t);
    }
    const double far = -least > most ? least : most;
    double best = 0, bestError = std::numeric_limits<double>::infinity();
    const auto judge = [&](double super) {
        const double h = nearestHalf(super).value;
        double error = 0, tq = 0, qq = 0;
        for (size_t i = 0; i < targets.size(); ++i) {
            const double q = codes.clamp(quotient(targets[i], h)), lost = targets[i] - q * h;
            error += weights[i] * lost * lost;
            tq += weights[i] * targets[i] * q;
            qq += weights[i] * q * q;
        }
        if (error < bestError) {
            bestError = error;
            best = h;
        }
        return quotient(tq, qq);
    };
    // Codes without negative ones need a super-scale of the sign that matters more.
    const double other = far == most ? least : most;
    for (const double multiple : {0.94, 1.0, 1.06, 1.15}) {
        judge(judge(far / (codes.high * multiple)));
        if (codes.low < 0)
            judge(judge(far / (codes.low * multiple)));
        else if (other != 0)
            judge(judge(other / (codes.high * multiple)));
    }
    return best;
}

/// One group: its place in the batches, and what is stored for it so far.
struct Group {
    size_t batch;
    int lane;
    int scale = 0, offset = 0; ///< codes
};

class Fitter {
public:
    Fitter(const Format& format, const Levels& levels, std::span<const GroupBatch> batches,
           std::span<const LaneFit> fits, int64_t perSuper)
        : m_format(format), m_levels(levels), m_batches(batches), m_fits(fits),
          m_perSuper(static_cast<size_t>(perSuper)), m_hasOffset(format.offset == OffsetKind::Code),
          m_scaleCodes(scaleCodes(format)), m_offsetCodes(offsetCodes(format)),
          m_grids(batches.size()), m_errors(batches.size()), m_sums(batches.size()) {
        for (size_t batch = 0; batch < batches.size(); ++batch) {
            m_grids[batch] = fits[batch].grid;
            for (int group = 0; group < batches[batch].groups(); ++group)
                m_groups.push_back({batch, batches[batch].laneOf(group)});
        }
        m_supers.resize((m_groups.size() + m_perSuper - 1) / m_perSuper);
    }

    /// The fits' scales rounded to codes.
    SuperFit plain() {
        SuperFit found = empty();
        start([](std::span<const double> targets, std::span<const double>, CodeRange codes) {
            const double far = farthest(targets);
            return nearestHalf(far / codes.high).value;
        });
        setGrids([](const Group& group) { return std::pair(group.scale, group.offset); });
        for (size_t batch = 0; batch < m_batches.size(); ++batch)
            m_errors[batch] = m_batches[batch].errors(m_levels, m_grids[batch], m_hasOffset);
        keepBetter(found);
        return found;
    }

    /// The same refined.
    SuperFit refined() {
        SuperFit found = empty();
        start(chooseSuper);
        for (int round = 0; round < kRounds; ++round) {
            chooseCodes();
            keepBetter(found);
            if (round + 1 == kRounds || !refitSupers())
                break;
        }
        return found;
    }

private:
    static constexpr int kRounds = 3;
    struct Super {
        double scale = 0, offset = 0; ///< halves
    };

    std::span<Group> groupsOf(size_t super) {
        const size_t begin = super * m_perSuper;
        return std::span(m_groups).subspan(begin, std::min(m_perSuper, m_groups.size() - begin));
    }
    const GroupBatch& batchOf(const Group& group) const { return m_batches[group.batch]; }
    double magnitude(const Group& group) const { return batchOf(group).magnitude(group.lane); }
    double errorUnit(const Group& group) const {
        return batchOf(group).weightMagnitude(group.lane) * magnitude(group) * magnitude(group);
    }

    /// Super-scales nearest to the groups' own scales and offsets, and codes nearest to those.
    template <typename Choose>
    void start(Choose&& choose) {
        takeSums();
        std::vector<double> scales, offsets, ofScales, ofOffsets;
        for (size_t super = 0; super < m_supers.size(); ++super) {
            scales.clear(), offsets.clear(), ofScales.clear(), ofOffsets.clear();
            for (const Group& group : groupsOf(super)) {
                const LaneGrid& grid = m_fits[group.batch].grid;
                const double unit = batchOf(group).weightMagnitude(group.lane);
                scales.push_back(double(grid.scale[group.lane]) * magnitude(group));
                ofScales.push_back(double(m_sums[group.batch].ll[group.lane]) * unit);
                offsets.push_back(double(grid.offset[group.lane]) * magnitude(group));
                ofOffsets.push_back(double(batchOf(group).extent().w[group.lane]) * unit);
            }
            Super& s = m_supers[super];
            s.scale = choose(scales, ofScales, m_scaleCodes);
            if (m_hasOffset)
                s.offset = choose(offsets, ofOffsets, m_offsetCodes);
            size_t i = 0;
            for (Group& group : groupsOf(super)) {
                group.scale = m_scaleCodes.clamp(quotient(scales[i], s.scale));
                group.offset = m_offsetCodes.clamp(quotient(offsets[i], s.offset));
                ++i;
            }
        }
    }

    void takeSums() {
        for (size_t batch = 0; batch < m_batches.size(); ++batch)
            m_sums[batch] = m_batches[batch].sums(m_levels, m_grids[batch], m_hasOffset);
    }

    /// Grids of the batches for codes of each group, as `codes(group)` gives them.
    template <typename Codes>
    void setGrids(Codes&& codes) {
        for (size_t super = 0; super < m_supers.size(); ++super)
            for (const Group& group : groupsOf(super)) {
                const auto [scale, offset] = codes(group);
                LaneGrid& grid = m_grids[group.batch];
                const auto own =
                    static_cast<float>(scale * m_supers[super].scale / magnitude(group));
                const auto shift =
                    static_cast<float>(offset * m_supers[super].offset / magnitude(group));
                for (int lane = group.lane; lane < nextLane(group); ++lane) {
                    grid.scale[lane] = own;
                    grid.offset[lane] = shift;
                }
            }
    }
    int nextLane(const Group& group) const { return group.lane + batchOf(group).laneOf(1); }

    /// Tries the codes next to each group's, keeps the best of each.
    void chooseCodes() {
        std::vector<Group> best = m_groups;
        for (Lanes& errors : m_errors)
            std::fill_n(errors.at, kLanes, std::numeric_limits<float>::infinity());
        std::vector<int> offsets(m_groups.size());
        const auto tryCodes = [&](int delta, auto&& offsetOf) {
            const auto codes = [&](const Group& group) {
                const auto i = static_cast<size_t>(&group - m_groups.data());
                return std::pair(m_scaleCodes.clamp(group.scale + delta), offsetOf(i));
            };
            setGrids(codes);
            for (size_t batch = 0, i = 0; batch < m_batches.size(); ++batch) {
                const Lanes errors = m_batches[batch].errors(m_levels, m_grids[batch], m_hasOffset);
                for (; i < m_groups.size() && m_groups[i].batch == batch; ++i) {
                    const int lane = m_groups[i].lane;
                    if (errors[lane] < m_errors[batch][lane]) {
                        m_errors[batch][lane] = errors[lane];
                        std::tie(best[i].scale, best[i].offset) = codes(m_groups[i]);
                    }
                }
            }
        };
        for (const int delta : {0, -1, 1}) {
            for (size_t i = 0; i < m_groups.size(); ++i)
                offsets[i] = m_groups[i].offset;
            if (m_hasOffset)
                offsetsFor(delta, offsets);
            tryCodes(delta, [&](size_t i) { return offsets[i]; });
        }
        m_groups = best;
        if (m_hasOffset)
            for (const int delta : {-1, 1}) {
                tryCodes(0,
                         [&](size_t i) { return m_offsetCodes.clamp(m_groups[i].offset + delta); });
            }
        m_groups = best;
    }

    /// The offset codes that are best with scale codes moved by `delta`.
    void offsetsFor(int delta, std::vector<int>& offsets) {
        setGrids([&](const Group& group) {
            return std::pair(m_scaleCodes.clamp(group.scale + delta), group.offset);
        });
        takeSums();
        for (size_t super = 0, i = 0; super < m_supers.size(); ++super)
            for (const Group& group : groupsOf(super)) {
                const GroupBatch::Extent& extent = batchOf(group).extent();
                const double scale = m_grids[group.batch].scale[group.lane];
                const double offset =
                    quotient(double(extent.wx[group.lane]) -
                                 scale * double(m_sums[group.batch].l[group.lane]),
                             extent.w[group.lane]);
                offsets[i++] = m_offsetCodes.clamp(
                    quotient(offset * magnitude(group), m_supers[super].offset));
            }
    }

    /// Super-scales by least squares with all codes fixed. Whether any changed.
    bool refitSupers() {
        setGrids([](const Group& group) { return std::pair(group.scale, group.offset); });
        takeSums();
        bool changed = false;
        for (size_t super = 0; super < m_supers.size(); ++super) {
            double ss = 0, so = 0, oo = 0, sx = 0, ox = 0; // of scale and offset codes
            for (const Group& group : groupsOf(super)) {
                const GroupBatch::Extent& extent = batchOf(group).extent();
                const GroupBatch::Sums& sums = m_sums[group.batch];
                const int lane = group.lane;
                const double unit = batchOf(group).weightMagnitude(lane), q = group.scale,
                             m = group.offset;
                ss += unit * q * q * double(sums.ll[lane]);
                sx += unit * q * double(sums.xl[lane]) * magnitude(group);
                if (m_hasOffset) {
                    so += unit * q * m * double(sums.l[lane]);
                    oo += unit * m * m * double(extent.w[lane]);
                    ox += unit * m * double(extent.wx[lane]) * magnitude(group);
                }
            }
            Super& s = m_supers[super];
            const Super old = s;
            const double determinant = ss * oo - so * so;
            if (determinant > 1e-6 * ss * oo) {
                s.scale = nearestHalf((sx * oo - ox * so) / determinant).value;
                s.offset = nearestHalf((ox * ss - sx * so) / determinant).value;
            } else if (ss > 0) {
                s.scale = nearestHalf((sx - so * s.offset) / ss).value;
            }
            changed |= s.scale != old.scale || s.offset != old.offset;
        }
        return changed;
    }

    SuperFit empty() const {
        SuperFit fit;
        fit.scales.resize(m_groups.size());
        fit.offsets.resize(m_format.offset == OffsetKind::None ? 0 : m_groups.size());
        fit.superScales.resize(m_supers.size());
        fit.superOffsets.resize(m_hasOffset ? m_supers.size() : 0);
        fit.errors.assign(m_supers.size(), std::numeric_limits<double>::infinity());
        return fit;
    }

    void keepBetter(SuperFit& best) {
        for (size_t super = 0; super < m_supers.size(); ++super) {
            double error = 0;
            for (const Group& group : groupsOf(super))
                error += double(m_errors[group.batch][group.lane]) * errorUnit(group);
            if (!(error < best.errors[super]))
                continue;
            best.errors[super] = error;
            best.superScales[super] =
                static_cast<uint16_t>(nearestHalf(m_supers[super].scale).bits);
            if (m_hasOffset)
                best.superOffsets[super] =
                    static_cast<uint16_t>(nearestHalf(m_supers[super].offset).bits);
            size_t i = super * m_perSuper;
            for (const Group& group : groupsOf(super)) {
                best.scales[i] = group.scale;
                if (m_hasOffset)
                    best.offsets[i] = group.offset;
                else if (!best.offsets.empty())
                    best.offsets[i] = static_cast<int>(m_fits[group.batch].zero[group.lane]);
                ++i;
            }
        }
    }

    const Format& m_format;
    const Levels& m_levels;
    std::span<const GroupBatch> m_batches;
    std::span<const LaneFit> m_fits;
    size_t m_perSuper;
    bool m_hasOffset;
    CodeRange m_scaleCodes, m_offsetCodes;
    std::vector<LaneGrid> m_grids;
    std::vector<Lanes> m_errors;
    std::vector<GroupBatch::Sums> m_sums;
    std::vector<Group> m_groups;
    std::vector<Super> m_supers;
};

} // namespace

SuperFit fitSupers(const Format& format, const Levels& levels, std::span<const GroupBatch> batches,
                   int64_t perSuper) {
    std::vector<LaneFit> plain, best;
    for (const GroupBatch& batch : batches) {
        plain.push_back(plainScales(format, levels, batch));
        best.push_back(searchScales(format, levels, batch));
    }
    SuperFit fit = Fitter(format, levels, batches, best, perSuper).refined();
    const SuperFit other = Fitter(format, levels, batches, plain, perSuper).plain();
    for (size_t super = 0; super < fit.errors.size(); ++super) {
        if (!(other.errors[super] < fit.errors[super]))
            continue;
        fit.superScales[super] = other.superScales[super];
        if (!fit.superOffsets.empty())
            fit.superOffsets[super] = other.superOffsets[super];
        const size_t begin = super * static_cast<size_t>(perSuper),
                     end = std::min(fit.scales.size(), begin + static_cast<size_t>(perSuper));
        const auto at = static_cast<ptrdiff_t>(begin);
        std::copy(other.scales.begin() + at, other.scales.begin() + static_cast<ptrdiff_t>(end),
                  fit.scales.begin() + at);
        if (!fit.offsets.empty())
            std::copy(other.offsets.begin() + at,
                      other.offsets.begin() + static_cast<ptrdiff_t>(end),
                      fit.offsets.begin() + at);
    }
    return fit;
}

} // namespace nibble
