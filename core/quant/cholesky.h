#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nibble {

/// A symmetric matrix of float64 of which only the upper triangle is kept, row by row; padded with
/// ones on the diagonal so that all its tiles are whole.
class UpperMatrix {
public:
    explicit UpperMatrix(int64_t size);

    int64_t size() const { return m_size; }
    double* row(int64_t i) { return m_values.data() + static_cast<size_t>(i * m_stride); }
    const double* row(int64_t i) const {
        return m_values.data() + static_cast<size_t>(i * m_stride);
    }

    /// A = UᵀU in its place, on all cores. False, and the values are of no use, when A is not
    /// positive definite, or holds what is no number.
    bool factor();

private:
    bool factorDiagonal(int64_t first, int64_t last);
    void solvePanel(int64_t first, int64_t last);
    void update(int64_t first, int64_t last);

    int64_t m_size, m_stride;
    std::vector<double> m_values;
    std::vector<double> m_panel; ///< the panel's columns, tile by tile: [tile][row][column]
};

} // namespace nibble
