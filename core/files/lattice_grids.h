#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nibble::blocks {

/// Points that the blocks of a lattice type name by their index, in ascending order (the first
/// coordinate counts least).
struct LatticeGrid {
    int dims; ///< values of one point: 8, or 4
    std::vector<int8_t> values;

    int points() const { return static_cast<int>(values.size()) / dims; }
    const int8_t* point(unsigned index) const {
        return values.data() + static_cast<size_t>(index) * static_cast<size_t>(dims);
    }
};

/// 2048 points of −1, 0, 1 (iq1_s and iq1_m); 256, 512, 1024 of 8, 25, 43; 256 of eight steps from
/// 4 to 62; 512 of odd numbers from 1 to 15.
const LatticeGrid& gridIq1();
const LatticeGrid& gridIq2_xxs();
const LatticeGrid& gridIq2_xs();
const LatticeGrid& gridIq2_s();
const LatticeGrid& gridIq3_xxs();
const LatticeGrid& gridIq3_s();

} // namespace nibble::blocks
