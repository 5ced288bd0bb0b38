#pragma once

#include "core/runtime/cpu/kernels.h"

#include <optional>
#include <string>
#include <vector>

namespace nibble {

/// A weight matrix as one kernel set multiplies with it: canonical planes (shared with the caller,
/// not copied) or tiles, in its own format.
class CpuMatrix {
public:
    /// Rows that are handed out together.
    static constexpr int64_t kUnitRows = TiledPlanes::kRows;

    CpuMatrix(const Tensor& tensor, const Activations& activations, const CpuKernels& kernels);

    int64_t rows() const { return m_rows; }
    int64_t cols() const { return m_cols; }
    int64_t units() const { return (m_rows + kUnitRows - 1) / kUnitRows; }
    /// What the kernel reads: floats for float weights, whatever was asked for.
    const InputForm& form() const { return m_form; }

    /// Whether the input's columns have to be put into the order of the planes first, by gather():
    /// once for all products of an input, as it costs a pass over it.
    bool needsGather() const { return m_columnOrder != nullptr; }
    /// The floats of `input` in the order of this matrix' planes.
    void gather(const ActivationRows& input, ActivationRows& out) const;

    /// out[m · stride + row] for the rows of units [begin, end) and every input row m.
    void multiply(const ActivationRows& input, int64_t begin, int64_t end, float* out,
                  int64_t stride) const;
    /// One row as floats, in the order of the values' columns.
    void decodeRow(int64_t row, float* out) const;

    uint64_t bytes() const;
    const Format& format() const { return *m_format; }
    /// "int4_g32 × int8, avx512-vnni, tiles"
    const std::string& path() const { return m_path; }

private:
    void decodePlaneRow(int64_t row, float* out) const;
    void takeOutliers();
    void addColumns(const ActivationRows& input, int64_t first, int64_t last, float* out,
                    int64_t stride) const;
    void addTiledOutliers(const ActivationRows& input, int64_t first, int64_t last, float* out,
                          int64_t stride) const;
    void addOutliers(const ActivationRows& input, int64_t first, int64_t last, float* out,
                     int64_t stride) const;

    const Format* m_format;
    int64_t m_rows, m_cols;
    InputForm m_form;
    std::shared_ptr<const std::vector<int32_t>> m_columnOrder;
    ProductKernel m_kernel = nullptr;
    Tensor m_tensor; ///< without planes when tiled
    std::optional<TiledPlanes> m_tiles;
    std::vector<float> m_outliers; ///< [row][k], the values of m_form.columns
    std::string m_path;
};

} // namespace nibble
