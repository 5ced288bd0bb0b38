#pragma once

#include "core/quant/moments.h"
#include "core/quant/row_fit.h"

namespace nibble {

/// Rows of a matrix that are rounded: [row][col], at most kBlockRows of them.
struct RoundedRows {
    std::span<const float> values;
    std::span<float> decoded;
    std::span<uint8_t> codes;
    std::span<RowFit> fits;
    std::span<RowGrid> grids;
};

/// Changes scales and codes one at a time, each to the value that makes the error of the output,
/// tr(E M Eᵀ), least while all others stay, so that it only falls (coordinate descent, as
/// QuantEase, Behdin et al. 2023, with scales among the coordinates). Error feedback, which goes
/// through the columns once, cannot come back to what it has rounded.
class Polish {
public:
    /// `damping` as a fraction of the mean diagonal, as in FeedbackFactor.
    Polish(const Format& format, const Moments& moments, double damping);
    void run(const RoundedRows& rows) const;

private:
    struct Row;
    void polish(Row& row) const;
    bool refitScales(Row& row) const;
    bool refitScale(Row& row, int64_t group) const;
    bool refitCodes(Row& row) const;
    void move(Row& row, int64_t col, float by) const;
    uint32_t nearestBits(const RowFit& fit, int64_t group, double scale) const;

    const Format& m_format;
    const Moments& m_moments;
    float m_damping = 0;
};

} // namespace nibble
