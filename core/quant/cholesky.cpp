#include "core/quant/cholesky.h"

#include "core/base/parallel.h"
#include "core/base/vector_width.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nibble {
namespace {

/// Rows and columns of a tile, whose sums stay in registers.
constexpr int64_t kTile = 8;
/// Rows that are done before the rest of the matrix is brought up to date.
constexpr int64_t kPanel = 64;

/// One tile of a panel of `count` rows: values = (values − what the rows before take) / diagonal.
/// `diagonal` is the panel's own triangle.
NIBBLE_EVERY_VECTOR_WIDTH
void solveTile(const double* diagonal, int64_t stride, int64_t count, double* tile) {
    for (int64_t k = 0; k < count; ++k) {
        double sum[kTile];
        for (int64_t c = 0; c < kTile; ++c)
            sum[c] = tile[k * kTile + c];
        for (int64_t l = 0; l < k; ++l)
            for (int64_t c = 0; c < kTile; ++c)
                sum[c] -= diagonal[l * stride + k] * tile[l * kTile + c];
        const double inverse = 1 / diagonal[k * stride + k];
        for (int64_t c = 0; c < kTile; ++c)
            tile[k * kTile + c] = sum[c] * inverse;
    }
}

/// A tile's row. The compiler makes of it what registers there are.
using TileRow = double __attribute__((vector_size(kTile * sizeof(double))));

/// out[a][c] −= Σ_k left[k][a] · right[k][c], for a tile of rows.
NIBBLE_EVERY_VECTOR_WIDTH
void updateTile(const double* left, const double* right, int64_t count, int64_t stride,
                double* out) {
    TileRow sums[kTile] = {};
    for (int64_t k = 0; k < count; ++k) {
        TileRow row;
        std::memcpy(&row, right + k * kTile, sizeof row);
        for (int64_t a = 0; a < kTile; ++a)
            sums[a] += left[k * kTile + a] * row;
    }
    for (int64_t a = 0; a < kTile; ++a) {
        TileRow row;
        std::memcpy(&row, out + a * stride, sizeof row);
        row -= sums[a];
        std::memcpy(out + a * stride, &row, sizeof row);
    }
}

} // namespace

UpperMatrix::UpperMatrix(int64_t size)
    : m_size(size), m_stride((size + kTile - 1) / kTile * kTile),
      m_values(static_cast<size_t>(m_stride * m_stride)) {
    for (int64_t i = size; i < m_stride; ++i)
        row(i)[i] = 1;
}

bool UpperMatrix::factor() {
    m_panel.resize(static_cast<size_t>(kPanel * m_stride));
    for (int64_t first = 0; first < m_stride; first += kPanel) {
        const int64_t last = std::min(m_stride, first + kPanel);
        if (!factorDiagonal(first, last))
            return false;
        solvePanel(first, last);
        update(first, last);
    }
    return true;
}

bool UpperMatrix::factorDiagonal(int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
        double* pivot = row(k);
        if (!(pivot[k] > 0) || !std::isfinite(pivot[k]))
            return false;
        pivot[k] = std::sqrt(pivot[k]);
        for (int64_t j = k + 1; j < last; ++j)
            pivot[j] /= pivot[k];
        for (int64_t i = k + 1; i < last; ++i)
            for (int64_t j = i; j < last; ++j)
                row(i)[j] -= pivot[i] * pivot[j];
    }
    return true;
}

void UpperMatrix::solvePanel(int64_t first, int64_t last) {
    const int64_t count = last - first;
    parallelFor(static_cast<size_t>((m_stride - last) / kTile), 4, [&](size_t begin, size_t end) {
        for (size_t t = begin; t < end; ++t) {
            const int64_t column = last + static_cast<int64_t>(t) * kTile;
            double* tile = m_panel.data() + t * static_cast<size_t>(count * kTile);
            for (int64_t k = 0; k < count; ++k)
                std::copy_n(row(first + k) + column, kTile, tile + k * kTile);
            solveTile(row(first) + first, m_stride, count, tile);
            for (int64_t k = 0; k < count; ++k)
                std::copy_n(tile + k * kTile, kTile, row(first + k) + column);
        }
    });
}

void UpperMatrix::update(int64_t first, int64_t last) {
    const int64_t count = last - first, tiles = (m_stride - last) / kTile;
    const auto tile = [&](int64_t t) { return m_panel.data() + t * count * kTile; };
    const auto updateRows = [&](int64_t top) {
        for (int64_t left = top; left < tiles; ++left)
            updateTile(tile(top), tile(left), count, m_stride,
                       row(last + top * kTile) + last + left * kTile);
    };
    // A long row of tiles and a short one together: shares of equal work.
    parallelFor(static_cast<size_t>((tiles + 1) / 2), 1, [&](size_t begin, size_t end) {
        for (auto t = static_cast<int64_t>(begin); t < static_cast<int64_t>(end); ++t) {
            updateRows(t);
            if (tiles - 1 - t > t)
                updateRows(tiles - 1 - t);
        }
    });
}

} // namespace nibble
