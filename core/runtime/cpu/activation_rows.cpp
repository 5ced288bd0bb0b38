#include "core/runtime/cpu/activation_rows.h"

#include "core/base/parallel.h"
#include "core/runtime/cpu/kernels.h"

#include <cmath>
#include <cstring>

namespace nibble {
namespace {

/// Fewer values than this are quantized faster than a second thread wakes up.
constexpr int64_t kParallelValues = 16384;

} // namespace

ActivationRows::ActivationRows(int32_t maxRows, int64_t maxCols)
    : m_maxRows(maxRows), m_maxStride(strideOf(maxCols)),
      m_values(static_cast<size_t>(maxRows * m_maxStride)) {}

void ActivationRows::allow(ActivationFormat format) {
    Codes& codes = m_codes[static_cast<size_t>(format)];
    if (format == ActivationFormat::Float || codes.codes.size() > 0)
        return;
    const auto values = static_cast<size_t>(m_maxRows * m_maxStride);
    codes.codes = AlignedBuffer<int8_t>(values);
    codes.scales = AlignedBuffer<float>(values / 32);
    codes.sums = AlignedBuffer<int32_t>(values / 16);
    if (format == ActivationFormat::Int8Outliers)
        m_outliers.resize(static_cast<size_t>(m_maxRows));
}

/// A row without its outliers, which are kept beside it.
void ActivationRows::splitOutliers(int64_t row, float* rest) {
    std::vector<OutlierValue>& kept = m_outliers[static_cast<size_t>(row)];
    kept.clear();
    const float* values = this->row(row);
    for (int64_t i = 0; i < m_stride; ++i) {
        const bool isOutlier = std::abs(values[i]) >= kOutlierThreshold;
        rest[i] = isOutlier ? 0 : values[i];
        if (isOutlier)
            kept.push_back({static_cast<int32_t>(i), values[i]});
    }
}

void ActivationRows::begin(int32_t rows, int64_t cols) {
    m_rows = rows;
    m_cols = cols;
    m_stride = strideOf(cols);
    if (m_stride != cols)
        for (int64_t i = 0; i < rows; ++i)
            std::memset(row(i) + cols, 0, static_cast<size_t>(m_stride - cols) * sizeof(float));
}

void ActivationRows::quantize(ActivationFormat format, const CpuKernels& kernels) {
    if (format == ActivationFormat::Float)
        return;
    Codes& codes = m_codes[static_cast<size_t>(format)];
    const int block = activationBlock(format);
    const auto body = [&](size_t begin, size_t end) {
        std::vector<float> rest(format == ActivationFormat::Int8Outliers ? size_t(m_stride) : 0);
        for (auto i = static_cast<int64_t>(begin); i < static_cast<int64_t>(end); ++i) {
            if (!rest.empty())
                splitOutliers(i, rest.data());
            kernels.quantize(rest.empty() ? row(i) : rest.data(), m_stride, block,
                             codes.codes.data() + i * m_stride,
                             codes.scales.data() + i * (m_stride / 32),
                             codes.sums.data() + i * (m_stride / 16));
        }
    };
    if (m_rows * m_stride < kParallelValues)
        body(0, static_cast<size_t>(m_rows));
    else
        parallelFor(static_cast<size_t>(m_rows), 1, std::ref(body));
}

Int8Rows ActivationRows::int8(ActivationFormat format) const {
    const Codes& codes = m_codes[static_cast<size_t>(format)];
    return {codes.codes.data(), codes.scales.data(), codes.sums.data()};
}

uint64_t ActivationRows::bytes() const {
    uint64_t sum = m_values.bytes();
    for (const Codes& codes : m_codes)
        sum += codes.codes.bytes() + codes.scales.bytes() + codes.sums.bytes();
    return sum;
}

uint64_t ActivationRows::bytesFor(int32_t maxRows, int64_t maxCols, int int8Formats) {
    const auto values = static_cast<uint64_t>(maxRows * strideOf(maxCols));
    return values * 4 + static_cast<uint64_t>(int8Formats) * (values + values / 32 * 12);
}

} // namespace nibble
