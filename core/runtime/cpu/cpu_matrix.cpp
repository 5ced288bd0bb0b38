#include "core/runtime/cpu/cpu_matrix.h"

#include "core/base/half.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace nibble {

CpuMatrix::CpuMatrix(const Tensor& tensor, const Activations& activations,
                     const CpuKernels& kernels)
    : m_format(tensor.format), m_rows(tensor.rows), m_cols(tensor.cols),
      m_form(inputForm(tensor, activations)), m_columnOrder(tensor.columnOrder) {
    const ProductChoice choice = kernels.choose(*tensor.format, m_form.format);
    m_kernel = choice.kernel;
    m_path = fmt::format("{}{} × {}, {}", m_format->name, m_columnOrder ? " in column order" : "",
                         m_form.text(), choice.path);
    m_tensor = tensor;
    m_tensor.columnOrder = nullptr;
    takeOutliers();
    if (choice.tiled) {
        m_tiles = toTiles(m_tensor, TileOrder::Words);
        m_tensor = {};
    }
}

void CpuMatrix::gather(const ActivationRows& input, ActivationRows& out) const {
    out.begin(input.rows(), m_cols);
    const std::vector<int32_t>& order = *m_columnOrder;
    for (int64_t m = 0; m < input.rows(); ++m) {
        const float* from = input.row(m);
        float* to = out.row(m);
        for (size_t j = 0; j < order.size(); ++j)
            to[j] = from[order[j]];
    }
}

/// What the kernels multiply has no outlier columns: addColumns() does, in floats, since converting
/// the halves for each product would cost more than it saves.
void CpuMatrix::takeOutliers() {
    const auto halves = m_tensor.outliers.as<uint16_t>();
    m_outliers.resize(halves.size());
    std::transform(halves.begin(), halves.end(), m_outliers.begin(), halfToFloat);
    m_tensor.outliers = {};
    m_tensor.outlierColumns = nullptr;
}

void CpuMatrix::multiply(const ActivationRows& input, int64_t begin, int64_t end, float* out,
                         int64_t stride) const {
    const WeightView view{&m_tensor, m_tiles ? &*m_tiles : nullptr, m_form};
    const int64_t first = begin * kUnitRows, last = std::min(end * kUnitRows, m_rows);
    m_kernel(view, input, first, last, out, stride);
    if (m_form.columns)
        addColumns(input, first, last, out, stride);
    const bool plain =
        m_tiles && m_tiles->format->bits == 8 && zeroCodeIsZero(*m_tiles->format) &&
        (m_tiles->format->scale == ScaleKind::F16 || m_tiles->format->scale == ScaleKind::F32);
    if (m_form.threshold > 0 && plain)
        addTiledOutliers(input, first, last, out, stride);
    else if (m_form.threshold > 0)
        addOutliers(input, first, last, out, stride);
}

/// The outlier columns, in which the codes are 0, times floats.
void CpuMatrix::addColumns(const ActivationRows& input, int64_t first, int64_t last, float* out,
                           int64_t stride) const {
    const std::vector<int32_t>& columns = *m_form.columns;
    std::vector<float> x(columns.size());
    for (int64_t m = 0; m < input.rows(); ++m) {
        for (size_t k = 0; k < x.size(); ++k)
            x[k] = input.row(m)[columns[k]];
        for (int64_t row = first; row < last; ++row) {
            const float* weights = m_outliers.data() + row * int64_t(x.size());
            double sum = 0;
            for (size_t k = 0; k < x.size(); ++k)
                sum += double(x[k]) * double(weights[k]);
            out[m * stride + row] += static_cast<float>(sum);
        }
    }
}

/// As addOutliers, of plain 8-bit codes: the rows of a tile at once, with the same numbers.
void CpuMatrix::addTiledOutliers(const ActivationRows& input, int64_t first, int64_t last,
                                 float* out, int64_t stride) const {
    constexpr int64_t kRows = TiledPlanes::kRows;
    const Format& f = *m_tiles->format;
    const int64_t groups = f.groupCount(m_cols), length = f.groupLength(m_cols);
    const auto* codes = reinterpret_cast<const int8_t*>(m_tiles->codes.data());
    const auto scaleAt = [&](int64_t at) {
        if (f.scale == ScaleKind::F16) {
            uint16_t half;
            std::memcpy(&half, m_tiles->scales.data() + at * 2, 2);
            return halfToFloat(half);
        }
        float scale;
        std::memcpy(&scale, m_tiles->scales.data() + at * 4, 4);
        return scale;
    };
    for (int64_t m = 0; m < input.rows(); ++m) {
        const auto& outliers = input.outliers(m_form, m);
        if (outliers.empty())
            continue;
        for (int64_t tile = first / kRows; tile * kRows < last; ++tile) {
            double sums[kRows] = {};
            float scales[kRows];
            int64_t scaled = -1; // the group that scales are of
            for (const OutlierValue& outlier : outliers) {
                if (const int64_t group = outlier.col / length; group != scaled) {
                    scaled = group;
                    for (int64_t lane = 0; lane < kRows; ++lane)
                        scales[lane] = scaleAt((tile * groups + group) * kRows + lane);
                }
                // Word by word of a record, the words of all rows, four codes each.
                const int8_t* column =
                    codes +
                    ((tile * m_tiles->blocks() + outlier.col / 32) * 8 + outlier.col % 32 / 4) *
                        kRows * 4 +
                    outlier.col % 4;
                for (int64_t lane = 0; lane < kRows; ++lane) {
                    const float weight = scales[lane] * static_cast<float>(column[lane * 4]);
                    sums[lane] += double(outlier.value) * double(weight);
                }
            }
            const int64_t rows = std::min(kRows, last - tile * kRows);
            for (int64_t lane = 0; lane < rows; ++lane)
                out[m * stride + tile * kRows + lane] += static_cast<float>(sums[lane]);
        }
    }
}

/// The values beyond the threshold, which the codes leave out, times the weights as they decode.
/// There are few, so that their columns alone are decoded.
void CpuMatrix::addOutliers(const ActivationRows& input, int64_t first, int64_t last, float* out,
                            int64_t stride) const {
    std::vector<int32_t> columns;
    for (int64_t m = 0; m < input.rows(); ++m)
        for (const OutlierValue& outlier : input.outliers(m_form, m))
            columns.push_back(outlier.col);
    if (columns.empty())
        return;
    std::sort(columns.begin(), columns.end());
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    std::vector<float> weights(static_cast<size_t>(m_cols));
    for (int64_t row = first; row < last; ++row) {
        for (const int32_t column : columns) // of the input, in the order of the planes
            weights[static_cast<size_t>(column)] = m_tiles ? decodeTiledCode(*m_tiles, row, column)
                                                           : decodeValue(m_tensor, row, column);
        for (int64_t m = 0; m < input.rows(); ++m) {
            double sum = 0;
            for (const OutlierValue& outlier : input.outliers(m_form, m))
                sum += double(outlier.value) * double(weights[static_cast<size_t>(outlier.col)]);
            out[m * stride + row] += static_cast<float>(sum);
        }
    }
}

void CpuMatrix::decodePlaneRow(int64_t row, float* out) const {
    if (m_tiles)
        decodeTiledRow(*m_tiles, row, out);
    else
        decodeRows(m_tensor, row, row + 1, out);
    if (m_form.columns)
        for (size_t k = 0; k < m_form.columns->size(); ++k)
            out[(*m_form.columns)[k]] =
                m_outliers[static_cast<size_t>(row) * m_form.columns->size() + k];
}

void CpuMatrix::decodeRow(int64_t row, float* out) const {
    if (!m_columnOrder) {
        decodePlaneRow(row, out);
        return;
    }
    std::vector<float> planeOrder(static_cast<size_t>(m_cols));
    decodePlaneRow(row, planeOrder.data());
    for (size_t j = 0; j < planeOrder.size(); ++j)
        out[(*m_columnOrder)[j]] = planeOrder[j];
}

uint64_t CpuMatrix::bytes() const {
    return (m_tiles ? m_tiles->bytes() : m_tensor.planeBytes()) +
           m_outliers.size() * sizeof(float) +
           (m_columnOrder ? m_columnOrder->size() * sizeof(int32_t) : 0);
}

} // namespace nibble
