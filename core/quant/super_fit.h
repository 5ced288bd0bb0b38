#pragma once

#include "core/quant/group_search.h"

#include <vector>

namespace nibble {

/// What is stored for the groups of a row (or a part of it) whose scales, and offsets if any, are
/// codes times an f16 super-scale.
struct SuperFit {
    std::vector<int> scales, offsets; ///< [group]: codes without scaleZero, codes or zero points
    std::vector<uint16_t> superScales, superOffsets; ///< [super]
};

/// Super-scales and codes for batches that hold whole supers, `perSuper` groups each. From the best
/// scales of the groups, codes of scales and super-scales are chosen in turn, each judged by what
/// the values then lose; never worse than the plain scales rounded to codes.
SuperFit fitSupers(const Format& format, const Levels& levels, std::span<const GroupBatch> batches,
                   int64_t perSuper, ScaleSearch search = ScaleSearch::LeastSquares);

} // namespace nibble
