#include "core/runtime/cpu/cpu_matrix.h"

#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace nibble {
namespace {

/// The values in f16, for a format without kernels or a column order; a few rows are decoded at a
/// time.
Tensor toHalf(const Tensor& tensor) {
    std::vector<uint16_t> bits(static_cast<size_t>(tensor.values()));
    parallelFor(static_cast<size_t>(tensor.rows), 16, [&](size_t begin, size_t end) {
        std::vector<float> row(static_cast<size_t>(tensor.cols));
        for (size_t i = begin; i < end; ++i) {
            decodeRows(tensor, int64_t(i), int64_t(i) + 1, row.data());
            std::transform(row.begin(), row.end(), bits.begin() + int64_t(i) * tensor.cols,
                           floatToHalf);
        }
    });
    Tensor half;
    half.name = tensor.name;
    half.format = &getFormat("f16");
    half.rows = tensor.rows;
    half.cols = tensor.cols;
    half.codes = Bytes::of(std::move(bits));
    return half;
}

} // namespace

CpuMatrix::CpuMatrix(const Tensor& tensor, ActivationFormat activations, const CpuKernels& kernels)
    : m_format(tensor.format), m_rows(tensor.rows), m_cols(tensor.cols),
      m_activations(tensor.format->isFloat() ? ActivationFormat::Float : activations) {
    ProductChoice choice = kernels.choose(*tensor.format, m_cols, m_activations);
    if (choice.kernel && !tensor.columnOrder) {
        m_path = fmt::format("{} × {}, {}", m_format->name, name(m_activations), choice.path);
        m_tensor = tensor;
        if (choice.tiled) {
            m_tiles = toTiles(tensor, TileOrder::Words);
            m_tensor = {};
        }
    } else {
        m_activations = ActivationFormat::Float;
        m_tensor = toHalf(tensor);
        choice = kernels.choose(*m_tensor.format, m_cols, m_activations);
        m_path = fmt::format("{}{} as f16 × float, {}", m_format->name,
                             tensor.columnOrder ? " in column order" : "", choice.path);
    }
    m_kernel = choice.kernel;
}

void CpuMatrix::multiply(const ActivationRows& input, int64_t begin, int64_t end, float* out,
                         int64_t stride) const {
    const WeightView view{&m_tensor, m_tiles ? &*m_tiles : nullptr, m_activations};
    const int64_t first = begin * kUnitRows, last = std::min(end * kUnitRows, m_rows);
    m_kernel(view, input, first, last, out, stride);
    if (m_activations == ActivationFormat::Int8Outliers)
        addOutliers(input, first, last, out, stride);
}

/// The few values that the codes leave out, times the weights as they decode.
void CpuMatrix::addOutliers(const ActivationRows& input, int64_t first, int64_t last, float* out,
                            int64_t stride) const {
    bool any = false;
    for (int64_t m = 0; m < input.rows() && !any; ++m)
        any = !input.outliers(m).empty();
    if (!any)
        return;
    std::vector<float> weights(static_cast<size_t>(m_cols));
    for (int64_t row = first; row < last; ++row) {
        decodeRow(row, weights.data());
        for (int64_t m = 0; m < input.rows(); ++m) {
            double sum = 0;
            for (const OutlierValue& outlier : input.outliers(m))
                sum += double(outlier.value) * double(weights[static_cast<size_t>(outlier.col)]);
            out[m * stride + row] += static_cast<float>(sum);
        }
    }
}

void CpuMatrix::decodeRow(int64_t row, float* out) const {
    if (m_tiles)
        decodeTiledRow(*m_tiles, row, out);
    else
        decodeRows(m_tensor, row, row + 1, out);
}

uint64_t CpuMatrix::bytes() const {
    return m_tiles ? m_tiles->bytes() : m_tensor.planeBytes();
}

} // namespace nibble
