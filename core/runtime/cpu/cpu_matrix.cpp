#include "core/runtime/cpu/cpu_matrix.h"

#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace nibble {

CpuMatrix::CpuMatrix(const Tensor& tensor, ActivationFormat activations, const CpuKernels& kernels)
    : m_format(tensor.format), m_rows(tensor.rows), m_cols(tensor.cols),
      m_activations(tensor.format->isFloat() ? ActivationFormat::Float : activations),
      m_columnOrder(tensor.columnOrder) {
    const ProductChoice choice = kernels.choose(*tensor.format, m_activations);
    m_kernel = choice.kernel;
    m_path = fmt::format("{}{} × {}, {}", m_format->name, m_columnOrder ? " in column order" : "",
                         name(m_activations), choice.path);
    if (choice.tiled) {
        m_tiles = toTiles(tensor, TileOrder::Words);
        return;
    }
    m_tensor = tensor;
    m_tensor.columnOrder = nullptr;
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
        decodePlaneRow(row, weights.data()); // outliers name columns of the input
        for (int64_t m = 0; m < input.rows(); ++m) {
            double sum = 0;
            for (const OutlierValue& outlier : input.outliers(m))
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
           (m_columnOrder ? m_columnOrder->size() * sizeof(int32_t) : 0);
}

} // namespace nibble
