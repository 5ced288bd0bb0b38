#include "core/quant/moments.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/base/vector_width.h"
#include "core/quant/cholesky.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

constexpr int64_t kTileRows = 4, kTileCols = 32;

/// sum[i][j] += Σ_t x[t][i] · x[t][j] for kTileRows rows from `i` and `width` columns from `j`.
NIBBLE_EVERY_VECTOR_WIDTH
void addTile(const float* x, int64_t count, int64_t stride, int64_t i, int64_t j, int64_t width,
             float* sum) {
    float acc[kTileRows][kTileCols] = {};
    if (width == kTileCols) {
        for (int64_t t = 0; t < count; ++t) {
            const float* row = x + t * stride;
            for (int64_t a = 0; a < kTileRows; ++a)
                for (int64_t b = 0; b < kTileCols; ++b)
                    acc[a][b] += row[i + a] * row[j + b];
        }
    } else {
        for (int64_t t = 0; t < count; ++t)
            for (int64_t a = 0; a < kTileRows; ++a)
                for (int64_t b = 0; b < width; ++b)
                    acc[a][b] += x[t * stride + i + a] * x[t * stride + j + b];
    }
    for (int64_t a = 0; a < kTileRows; ++a)
        for (int64_t b = 0; b < width; ++b)
            sum[(i + a) * stride + j + b] += acc[a][b];
}

constexpr size_t kErrorRows = 16;

/// Σ eᵀ M e of kErrorRows errors that lie side by side, column by column.
NIBBLE_EVERY_VECTOR_WIDTH
double tileError(const float* moments, size_t size, const float* errors) {
    double total = 0;
    for (size_t i = 0; i < size; ++i) {
        const float* line = moments + i * size;
        float even[kErrorRows] = {}, odd[kErrorRows] = {};
        size_t j = 0;
        for (; j + 2 <= i; j += 2)
            for (size_t r = 0; r < kErrorRows; ++r) {
                even[r] += line[j] * errors[j * kErrorRows + r];
                odd[r] += line[j + 1] * errors[(j + 1) * kErrorRows + r];
            }
        float sum = 0;
        for (size_t r = 0; r < kErrorRows; ++r) {
            const float e = errors[i * kErrorRows + r];
            const float rest = j < i ? line[j] * errors[j * kErrorRows + r] : 0.0f;
            sum += e * (2 * (even[r] + odd[r] + rest) + line[i] * e); // M is symmetric
        }
        total += double(sum);
    }
    return total;
}

} // namespace

MomentSum::MomentSum(int64_t size) : m_size(size), m_sum(static_cast<size_t>(size * size)) {}

void MomentSum::add(const float* rows, int64_t count) {
    m_tokens += count;
    const int64_t whole = m_size / kTileRows * kTileRows;
    // Only columns from the row's own tile on: the rest is the mirror image.
    parallelFor(static_cast<size_t>(whole / kTileRows), 4, [&](size_t begin, size_t end) {
        for (auto tile = static_cast<int64_t>(begin); tile < static_cast<int64_t>(end); ++tile) {
            const int64_t i = tile * kTileRows;
            for (int64_t j = i / kTileCols * kTileCols; j < m_size; j += kTileCols)
                addTile(rows, count, m_size, i, j, std::min(kTileCols, m_size - j), m_sum.data());
        }
    });
    for (int64_t i = whole; i < m_size; ++i)
        for (int64_t j = i; j < m_size; ++j) {
            double sum = 0;
            for (int64_t t = 0; t < count; ++t)
                sum += double(rows[t * m_size + i]) * double(rows[t * m_size + j]);
            m_sum[static_cast<size_t>(i * m_size + j)] += static_cast<float>(sum);
        }
}

Moments MomentSum::finish() {
    const float scale = m_tokens > 0 ? 1.0f / static_cast<float>(m_tokens) : 0.0f;
    for (int64_t i = 0; i < m_size; ++i)
        for (int64_t j = i; j < m_size; ++j) {
            const float value = m_sum[static_cast<size_t>(i * m_size + j)] * scale;
            m_sum[static_cast<size_t>(i * m_size + j)] = value;
            m_sum[static_cast<size_t>(j * m_size + i)] = value;
        }
    return {m_size, m_tokens, std::move(m_sum)};
}

double outputError(const Moments& moments, std::span<const float> rows) {
    const auto size = static_cast<size_t>(moments.size);
    const size_t count = rows.size() / std::max<size_t>(1, size);
    const size_t tiles = (count + kErrorRows - 1) / kErrorRows;
    std::vector<double> sums(tiles);
    parallelFor(tiles, 1, [&](size_t begin, size_t end) {
        std::vector<float> columns(size * kErrorRows);
        for (size_t tile = begin; tile < end; ++tile) {
            std::fill(columns.begin(), columns.end(), 0.0f);
            for (size_t r = 0; r < std::min(kErrorRows, count - tile * kErrorRows); ++r)
                for (size_t c = 0; c < size; ++c)
                    columns[c * kErrorRows + r] = rows[(tile * kErrorRows + r) * size + c];
            sums[tile] = tileError(moments.values.data(), size, columns.data());
        }
    });
    return std::max(0.0, std::accumulate(sums.begin(), sums.end(), 0.0));
}

FeedbackFactor factor(const Moments& moments, std::vector<int32_t> order, double damping) {
    const int64_t n = moments.size;
    FeedbackFactor out;
    out.size = n;
    out.order = std::move(order);
    double mean = 0;
    for (int64_t i = 0; i < n; ++i)
        mean += std::max(0.0, double(moments.at(i, i)));
    mean = n > 0 ? mean / static_cast<double>(n) : 0;
    if (mean <= 0 || !std::isfinite(mean))
        mean = 1; // nothing was ever seen: no feedback, plain rounding

    // In reversed order the upper factor by rows is the one that is wanted by columns.
    const auto column = [&](int64_t k) {
        return int64_t(out.order[static_cast<size_t>(n - 1 - k)]);
    };
    UpperMatrix reversed(n);
    constexpr double kMost = 1e4;
    for (out.damping = damping;; out.damping = std::max(out.damping * 4, 1e-4)) {
        if (out.damping > kMost)
            fail(ErrorKind::BadInput,
                 "The calibration of a matrix with {} inputs holds values that are no numbers; "
                 "calibrate this model again.",
                 n);
        out.dead = 0;
        parallelFor(static_cast<size_t>(n), 64, [&](size_t begin, size_t end) {
            for (auto i = static_cast<int64_t>(begin); i < static_cast<int64_t>(end); ++i) {
                const float* from = moments.values.data() + column(i) * n;
                for (int64_t j = i; j < n; ++j)
                    reversed.row(i)[j] = double(from[column(j)]);
            }
        });
        for (int64_t i = 0; i < n; ++i) {
            double& diagonal = reversed.row(i)[i];
            if (diagonal <= 0) {
                ++out.dead;
                diagonal = mean;
            }
            diagonal += out.damping * mean;
        }
        if (reversed.factor())
            break;
        out.grown = true;
    }
    out.feedback.resize(static_cast<size_t>(n * n));
    parallelFor(static_cast<size_t>(n), 64, [&](size_t begin, size_t end) {
        for (auto k = static_cast<int64_t>(begin); k < static_cast<int64_t>(end); ++k) {
            const double* row = reversed.row(n - 1 - k);
            const double inverse = 1 / row[n - 1 - k];
            for (int64_t j = 0; j < k; ++j)
                out.feedback[static_cast<size_t>(k * n + j)] =
                    static_cast<float>(row[n - 1 - j] * inverse);
        }
    });
    return out;
}

} // namespace nibble
