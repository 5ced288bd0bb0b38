#pragma once

#include "core/runtime/cpu/aligned.h"
#include "core/runtime/input_form.h"

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

/// The input rows of matrix products: floats, and their int8 codes in the forms that were asked
/// for. Rows are padded with zeros to a multiple of 32.
class ActivationRows {
public:
    ActivationRows() = default;
    ActivationRows(int32_t maxRows, int64_t maxCols);

    /// Allocates the buffers of so many int8 forms; more are allocated when they are needed.
    void allow(size_t forms);

    /// The following rows have `cols` values; their padding is cleared, their forms are forgotten.
    void begin(int32_t rows, int64_t cols);
    /// Fills an int8 form of all rows. Floats need no preparing.
    void quantize(const InputForm& form, const CpuKernels& kernels);

    int32_t rows() const { return m_rows; }
    int64_t cols() const { return m_cols; }
    int64_t stride() const { return m_stride; }
    float* row(int64_t row) { return m_values.data() + row * m_stride; }
    const float* row(int64_t row) const { return m_values.data() + row * m_stride; }
    Int8Rows int8(const InputForm& form) const;
    /// The values beyond the threshold that a form leaves out of a row's codes, by column; those of
    /// outlier columns are not among them.
    const std::vector<OutlierValue>& outliers(const InputForm& form, int64_t row) const;
    uint64_t bytes() const;

    static int64_t strideOf(int64_t cols) { return (cols + 31) / 32 * 32; }
    /// bytes() of such rows in Float and in `int8Forms` other forms.
    static uint64_t bytesFor(int32_t maxRows, int64_t maxCols, int int8Forms);

private:
    struct Codes {
        InputForm form;
        AlignedBuffer<int8_t> codes;
        AlignedBuffer<float> scales;
        AlignedBuffer<int32_t> sums;
        std::vector<std::vector<OutlierValue>> outliers;
    };
    Codes& codesOf(const InputForm& form);
    const Codes& codesOf(const InputForm& form) const;
    void quantizeRow(Codes& codes, int64_t row, const CpuKernels& kernels) const;
    int32_t m_maxRows = 0, m_rows = 0;
    int64_t m_maxStride = 0, m_cols = 0, m_stride = 0;
    AlignedBuffer<float> m_values;
    std::vector<Codes> m_codes;
    size_t m_forms = 0; ///< of m_codes, those of these rows
};

} // namespace nibble
