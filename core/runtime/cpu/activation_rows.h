#pragma once

#include "core/runtime/cpu/aligned.h"
#include "core/runtime/options.h"

#include <array>
#include <vector>

namespace nibble {

struct CpuKernels;

/// The int8 form of activation rows: codes, for each 32 the scale of the block that they are in,
/// and for each 16 their sum (the smallest groups of weights have as many).
struct Int8Rows {
    const int8_t* codes = nullptr; ///< [rows][stride]
    const float* scales = nullptr; ///< [rows][stride / 32]
    const int32_t* sums = nullptr; ///< [rows][stride / 16]
};

/// A value that is multiplied as a float beside the int8 codes, which have 0 in its place.
struct OutlierValue {
    int32_t col = 0;
    float value = 0;
};

/// The input rows of matrix products: floats, and their int8 codes in the activation formats that
/// were asked for. Rows are padded with zeros to a multiple of 32.
class ActivationRows {
public:
    ActivationRows() = default;
    ActivationRows(int32_t maxRows, int64_t maxCols);

    /// Allocates the buffers of an int8 format; nothing for Float.
    void allow(ActivationFormat format);

    /// The following rows have `cols` values; their padding is cleared.
    void begin(int32_t rows, int64_t cols);
    /// Fills the int8 form of all rows. Floats need no preparing.
    void quantize(ActivationFormat format, const CpuKernels& kernels);

    int32_t rows() const { return m_rows; }
    int64_t cols() const { return m_cols; }
    int64_t stride() const { return m_stride; }
    float* row(int64_t row) { return m_values.data() + row * m_stride; }
    const float* row(int64_t row) const { return m_values.data() + row * m_stride; }
    Int8Rows int8(ActivationFormat format) const;
    /// What Int8Outliers leaves out of a row's codes, by column.
    const std::vector<OutlierValue>& outliers(int64_t row) const {
        return m_outliers[static_cast<size_t>(row)];
    }
    uint64_t bytes() const;

    static int64_t strideOf(int64_t cols) { return (cols + 31) / 32 * 32; }
    /// bytes() of such rows in Float and in `int8Formats` other formats.
    static uint64_t bytesFor(int32_t maxRows, int64_t maxCols, int int8Formats);

private:
    struct Codes {
        AlignedBuffer<int8_t> codes;
        AlignedBuffer<float> scales;
        AlignedBuffer<int32_t> sums;
    };
    void splitOutliers(int64_t row, float* rest);
    int32_t m_maxRows = 0, m_rows = 0;
    int64_t m_maxStride = 0, m_cols = 0, m_stride = 0;
    AlignedBuffer<float> m_values;
    std::array<Codes, kActivationFormats> m_codes; // by ActivationFormat
    std::vector<std::vector<OutlierValue>> m_outliers;
};

} // namespace nibble
