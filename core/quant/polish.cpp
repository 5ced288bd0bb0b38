#include "core/quant/polish.h"

#include "core/base/half.h"
#include "core/base/vector_width.h"
#include "core/quant/row_block.h"
#include "core/quant/stored_scale.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

/// Few codes still change after the second.
constexpr int kSweeps = 4;

/// y += factor · x
NIBBLE_EVERY_VECTOR_WIDTH
void addScaled(float factor, const float* __restrict x, int64_t count, float* __restrict y) {
    for (int64_t i = 0; i < count; ++i)
        y[i] += factor * x[i];
}

/// x · y, its products rounded to float32, its sums not; in lanes, which a loop of one sum has not.
NIBBLE_EVERY_VECTOR_WIDTH
double dot(const float* x, const float* y, size_t count) {
    constexpr size_t kLanes = 8;
    double sums[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (size_t lane = 0; lane < kLanes; ++lane)
            sums[lane] += double(x[i + lane] * y[i + lane]);
    for (; i < count; ++i)
        sums[0] += double(x[i] * y[i]);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
           ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

} // namespace

struct Polish::Row {
    std::span<float> gradient; ///< (M + damping) · (w − ŵ)
    std::span<float> decoded;
    uint8_t* codes;
    RowFit& fit;
    RowGrid& grid;
};

Polish::Polish(const Format& format, const Moments& moments, double damping)
    : m_format(format), m_moments(moments) {
    double sum = 0;
    for (int64_t i = 0; i < moments.size; ++i)
        sum += double(moments.at(i, i));
    m_damping = static_cast<float>(damping * sum / static_cast<double>(moments.size));
}

void Polish::run(const RoundedRows& rows) const {
    if (!(m_damping > 0) || !std::isfinite(m_damping))
        return; // an input that never was anything but zero
    const auto cols = static_cast<size_t>(m_moments.size);
    std::vector<float> errors(cols * kBlockRows), gradients(rows.fits.size() * cols);
    for (size_t r = 0; r < rows.fits.size(); ++r)
        for (size_t c = 0; c < cols; ++c)
            errors[c * kBlockRows + r] = rows.values[r * cols + c] - rows.decoded[r * cols + c];
    for (size_t c = 0; c < cols; ++c) {
        float sums[kBlockRows];
        sumColumns(m_moments.values.data() + c * cols, errors.data(), m_moments.size, sums);
        for (size_t r = 0; r < rows.fits.size(); ++r)
            gradients[r * cols + c] = sums[r] + m_damping * errors[c * kBlockRows + r];
    }
    for (size_t r = 0; r < rows.fits.size(); ++r) {
        Row row{std::span(gradients).subspan(r * cols, cols), rows.decoded.subspan(r * cols, cols),
                rows.codes.data() + r * cols, rows.fits[r], rows.grids[r]};
        // Values near the largest float32 have products beyond it, and stay as they are.
        if (std::all_of(row.gradient.begin(), row.gradient.end(),
                        [](float g) { return std::abs(g) < 1e30f; }))
            polish(row);
    }
}

void Polish::polish(Row& row) const {
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
        const bool scalesChanged = refitScales(row);
        if (!refitCodes(row) && !scalesChanged)
            return;
    }
}

/// ŵ of one column changes, and with it the gradient of all.
void Polish::move(Row& row, int64_t col, float by) const {
    const auto at = static_cast<size_t>(col);
    row.decoded[at] += by;
    addScaled(-by, m_moments.values.data() + col * m_moments.size, m_moments.size,
              row.gradient.data());
    row.gradient[at] -= by * m_damping;
}

bool Polish::refitCodes(Row& row) const {
    bool changed = false;
    for (int64_t col = 0; col < m_moments.size; ++col) {
        const auto at = static_cast<size_t>(col);
        const float best =
            row.decoded[at] + row.gradient[at] / (m_moments.at(col, col) + m_damping);
        const RowGrid::Nearest nearest = row.grid.nearest(col, best);
        if (nearest.code != row.codes[at]) {
            row.codes[at] = nearest.code;
            move(row, col, nearest.value - row.decoded[at]);
            changed = true;
        }
        row.decoded[at] = nearest.value; // to the last bit, which sums of steps are not
    }
    return changed;
}

bool Polish::refitScales(Row& row) const {
    bool changed = false;
    for (int64_t group = 0; group < m_format.groupCount(m_moments.size); ++group)
        changed |= refitScale(row, group);
    if (changed)
        row.grid = RowGrid(m_format, m_moments.size, row.fit);
    return changed;
}

/// Least squares in M of one group's scale, all codes fixed, rounded to what can be stored.
bool Polish::refitScale(Row& row, int64_t group) const {
    const int64_t length = m_format.groupLength(m_moments.size), begin = group * length;
    const auto count = static_cast<size_t>(std::min(length, m_moments.size - begin));
    const GroupValues before = groupValues(m_format, m_moments.size, row.fit, group);
    if (before.scale == 0)
        return false;
    // The error is a parabola of the scale, here in units of the present one.
    thread_local std::vector<float> scaled;
    scaled.resize(count);
    for (size_t i = 0; i < count; ++i)
        scaled[i] = row.decoded[static_cast<size_t>(begin) + i] - before.offset;
    double slope = 0, curve = 0;
    for (size_t i = 0; i < count; ++i) {
        const int64_t col = begin + static_cast<int64_t>(i);
        const float* moments = m_moments.values.data() + col * m_moments.size + begin;
        const double sum =
            double(m_damping) * double(scaled[i]) + dot(moments, scaled.data(), count);
        slope += double(scaled[i]) * double(row.gradient[static_cast<size_t>(col)]);
        curve += double(scaled[i]) * sum;
    }
    if (!(curve > 0))
        return false;
    uint32_t& bits = row.fit.scales[static_cast<size_t>(group)];
    const uint32_t kept = bits;
    bits = nearestBits(row.fit, group, before.scale * (1 + slope / curve));
    const GroupValues after = groupValues(m_format, m_moments.size, row.fit, group);
    const double step = after.scale / before.scale - 1;
    if (!(step * (step * curve - 2 * slope) < 0)) {
        bits = kept;
        return false;
    }
    for (size_t i = 0; i < count; ++i)
        move(row, begin + static_cast<int64_t>(i), static_cast<float>(step) * scaled[i]);
    return true;
}

uint32_t Polish::nearestBits(const RowFit& fit, int64_t group, double scale) const {
    if (m_format.scale != ScaleKind::Code)
        return nearestScale(m_format.scale, scale).bits;
    const auto super =
        static_cast<size_t>(group * m_format.groupLength(m_moments.size) / m_format.super);
    const double unit = double(halfToFloat(fit.superScales[super]));
    const int codes = 1 << m_format.scaleBits;
    const int low = m_format.scaleBits == 8 ? -128 : -m_format.scaleZero;
    const double code = unit == 0 ? 0 : std::round(scale / unit);
    const int nearest = static_cast<int>(std::clamp(code, double(low), double(low + codes - 1)));
    return static_cast<uint32_t>(nearest + m_format.scaleZero) & static_cast<uint32_t>(codes - 1);
}

} // namespace nibble
