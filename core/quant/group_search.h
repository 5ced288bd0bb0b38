#pragma once

#include "core/quant/group_batch.h"

namespace nibble {

/// How scales are chosen.
enum class ScaleSearch : uint8_t {
    LeastSquares, ///< what loses least of all that is tried
    Largest       ///< what takes the largest magnitude (or the range) to the outermost level
};

/// The scale, offset and zero point of each lane of a batch that are best before anything is
/// rounded to what is stored (zero points are integers already), in the batch's own magnitudes.
struct LaneFit {
    LaneGrid grid;
    Lanes zero; ///< the group's zero point
};

/// Tries scales around the one that spreads the largest magnitude (or the range) over the levels,
/// of both signs where levels are not symmetric, each refined by least squares with its codes
/// fixed.
LaneFit searchScales(const Format& format, const Levels& levels, const GroupBatch& batch);

/// The textbook's: the largest magnitude (or the range, with 0 in it for zero points) spread over
/// the levels.
LaneFit plainScales(const Format& format, const Levels& levels, const GroupBatch& batch);

/// Least and greatest level of lanes with a zero point.
void setZero(const Format& format, LaneFit& fit, int lane, int zero);

} // namespace nibble
