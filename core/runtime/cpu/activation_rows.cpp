#include "core/runtime/cpu/activation_rows.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/runtime/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace nibble {
namespace {

/// Fewer values than this are quantized faster than a second thread wakes up.
constexpr int64_t kParallelValues = 16384;

/// Takes a row's values from the threshold on out of it. What is no number stays, so that it
/// spreads to the whole result.
void splitOutliers(std::vector<float>& row, float threshold, std::vector<OutlierValue>& kept) {
    kept.clear();
    for (size_t i = 0; i < row.size(); ++i)
        if (std::abs(row[i]) >= threshold && std::isfinite(row[i])) {
            kept.push_back({static_cast<int32_t>(i), row[i]});
            row[i] = 0;
        }
}

/// As CpuKernels::quantize with a scale that is given: codes beyond ±127 are clamped.
void quantizeStatic(const float* x, int64_t count, float scale, int8_t* codes, float* scales,
                    int32_t* sums) {
    const float inverse = 1 / scale;
    int broken = 0;
    for (int64_t i = 0; i < count; ++i)
        broken |= std::abs(x[i]) <= std::numeric_limits<float>::max() ? 0 : 1;
    for (int64_t at = 0; at < count; at += 16) {
        int32_t sum = 0;
        for (int64_t i = at; broken == 0 && i < at + 16; ++i) {
            // Half away from zero, as std::round, which would be a call a value.
            const float steps = std::clamp(x[i] * inverse, -127.0f, 127.0f);
            const auto whole = static_cast<int32_t>(steps);
            const float rest = steps - static_cast<float>(whole);
            const int32_t code = whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0);
            codes[i] = static_cast<int8_t>(code);
            sum += code;
        }
        if (broken != 0)
            std::memset(codes + at, 0, 16);
        scales[at / 32] = broken != 0 ? std::nanf("") : scale;
        sums[at / 16] = sum;
    }
}

} // namespace

ActivationRows::ActivationRows(int32_t maxRows, int64_t maxCols)
    : m_maxRows(maxRows), m_maxStride(strideOf(maxCols)),
      m_values(static_cast<size_t>(maxRows * m_maxStride)) {}

void ActivationRows::allow(size_t forms) {
    const auto values = static_cast<size_t>(m_maxRows * m_maxStride);
    while (m_codes.size() < forms) {
        Codes codes;
        codes.codes = AlignedBuffer<int8_t>(values);
        codes.scales = AlignedBuffer<float>(values / 32);
        codes.sums = AlignedBuffer<int32_t>(values / 16);
        codes.outliers.resize(static_cast<size_t>(m_maxRows));
        m_codes.push_back(std::move(codes));
    }
}

void ActivationRows::begin(int32_t rows, int64_t cols) {
    m_rows = rows;
    m_cols = cols;
    m_stride = strideOf(cols);
    m_forms = 0;
    if (m_stride != cols)
        for (int64_t i = 0; i < rows; ++i)
            std::memset(row(i) + cols, 0, static_cast<size_t>(m_stride - cols) * sizeof(float));
}

ActivationRows::Codes& ActivationRows::codesOf(const InputForm& form) {
    for (size_t i = 0; i < m_forms; ++i)
        if (m_codes[i].form == form)
            return m_codes[i];
    allow(m_forms + 1);
    m_codes[m_forms].form = form;
    return m_codes[m_forms++];
}

const ActivationRows::Codes& ActivationRows::codesOf(const InputForm& form) const {
    for (size_t i = 0; i < m_forms; ++i)
        if (m_codes[i].form == form)
            return m_codes[i];
    fail(ErrorKind::Internal, "Activations were not prepared as {}.", form.text());
}

void ActivationRows::quantizeRow(Codes& codes, int64_t row, const CpuKernels& kernels) const {
    const InputForm& form = codes.form;
    const float* values = this->row(row);
    if (form.hasOutliers()) {
        thread_local std::vector<float> rest;
        rest.assign(values, values + m_stride);
        if (form.columns)
            for (const int32_t column : *form.columns)
                rest[static_cast<size_t>(column)] = 0;
        if (form.threshold > 0)
            splitOutliers(rest, form.threshold, codes.outliers[static_cast<size_t>(row)]);
        values = rest.data();
    }
    int8_t* const to = codes.codes.data() + row * m_stride;
    float* const scales = codes.scales.data() + row * (m_stride / 32);
    int32_t* const sums = codes.sums.data() + row * (m_stride / 16);
    if (form.format == ActivationFormat::Int8Static)
        quantizeStatic(values, m_stride, form.scale, to, scales, sums);
    else
        kernels.quantize(values, m_stride, activationBlock(form.format), to, scales, sums);
}

void ActivationRows::quantize(const InputForm& form, const CpuKernels& kernels) {
    if (form.isFloat())
        return;
    Codes& codes = codesOf(form);
    const auto body = [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
            quantizeRow(codes, static_cast<int64_t>(i), kernels);
    };
    if (m_rows * m_stride < kParallelValues)
        body(0, static_cast<size_t>(m_rows));
    else
        parallelFor(static_cast<size_t>(m_rows), 1, std::ref(body));
}

Int8Rows ActivationRows::int8(const InputForm& form) const {
    const Codes& codes = codesOf(form);
    return {codes.codes.data(), codes.scales.data(), codes.sums.data()};
}

const std::vector<OutlierValue>& ActivationRows::outliers(const InputForm& form,
                                                          int64_t row) const {
    return codesOf(form).outliers[static_cast<size_t>(row)];
}

uint64_t ActivationRows::bytes() const {
    uint64_t sum = m_values.bytes();
    for (const Codes& codes : m_codes)
        sum += codes.codes.bytes() + codes.scales.bytes() + codes.sums.bytes();
    return sum;
}

uint64_t ActivationRows::bytesFor(int32_t maxRows, int64_t maxCols, int int8Forms) {
    const auto values = static_cast<uint64_t>(maxRows * strideOf(maxCols));
    return values * 4 + static_cast<uint64_t>(int8Forms) * (values + values / 32 * 12);
}

} // namespace nibble
