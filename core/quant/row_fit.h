#pragma once

#include "core/quant/group_search.h"
#include "core/tensor/planes.h"
#include "core/tensor/tensor.h"

#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

/// Scales and offsets of one row as stored (raw bits as TensorBuilder takes them).
struct RowFit {
    std::vector<uint32_t> scales;                    ///< [group]
    std::vector<uint16_t> offsets;                   ///< [group], empty without offsets
    std::vector<uint16_t> superScales, superOffsets; ///< [super]
};

/// Why no fit makes this format, or null.
const char* cannotFit(const Format& format);

/// Chooses the stored scales and offsets of a row of finite values that minimise
/// Σ weight · (x − decoded)², and writes the nearest codes (x.size() of them, as TensorBuilder
/// takes them). Weights are finite and not negative; none: all the same. With ScaleSearch::Largest
/// scales are taken as they come, weights or not.
RowFit fitRow(const Format& format, std::span<const float> x, std::span<const float> weights,
              uint8_t* codes, ScaleSearch search = ScaleSearch::LeastSquares);

/// One group's numbers under a fit.
GroupValues groupValues(const Format& format, int64_t cols, const RowFit& fit, int64_t group);

/// The values that a row can take under a fit: what methods that move the error of one column to
/// the next round to.
class RowGrid {
public:
    RowGrid(const Format& format, int64_t cols, const RowFit& fit);

    /// The code whose decoded value lies nearest to x in column `col`, and that value (exactly what
    /// decodeRows gives).
    struct Nearest {
        uint8_t code;
        float value;
    };
    Nearest nearest(int64_t col, float x) const;

private:
    struct Integers : GroupCodes {
        float inverse;
    };
    /// The 16 values from small to large, their codes, and the thresholds between them.
    struct Sorted {
        float values[16], thresholds[15];
        uint8_t codes[16];
    };
    static Sorted sorted(const Levels& levels, double scale);

    int m_shift; ///< group = column >> shift
    bool m_hasOffset;
    std::vector<Integers> m_integers;
    std::vector<Sorted> m_sorted;
};

/// Puts a fit and its codes into a tensor being built.
void storeRow(TensorBuilder& out, int64_t row, const RowFit& fit, const uint8_t* codes);

} // namespace nibble
