#pragma once

#include "core/base/bytes.h"
#include "core/tensor/format.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace nibble {

/// A named matrix of values: rows × cols (row-major, cols contiguous; a vector is one row), in
/// canonical planes. `experts` > 1 stacks that many matrices along rows (rows is the total).
///
/// Canonical planes of a quantized format, with B = ceil(cols / 32) blocks of 32 a row:
///  codes         low plane [row][block] records of lowBits() words (uint32, little-endian), then
///                the high plane the same with highBits(). In a record of b words, values 4d…4d+3
///                (d = 0…7) are the four bytes of word d mod b, at bit b·⌊d/b⌋ of each byte. Values
///                beyond cols are zero bits.
///  scales        [row][group]: u32 (F32), u16 (F16, BF16) or u8 (E8M0, E4M3, Code) raw bits
///  superScales   [row][super] f16
///  offsets       [row][group]: f16 (Value) or u8 (Code, Zero)
///  superOffsets  [row][super] f16
/// With a column order plane column j holds the values' column order[j]: groups are then formed of
/// columns that are not neighbours (GPTQ's act-order).
///  outliers      [row][k] f16: LLM.int8()'s outlier columns, the columns outlierColumns[k] of the
///                values, kept beside the codes, which have 0 there
/// Planes keep the raw stored bits, so that containers translate to and from them bit-exactly.
/// Float formats have only `codes`: rows × cols values.
struct Tensor {
    std::string name;
    const Format* format = nullptr;
    int64_t rows = 0, cols = 0, experts = 1;
    Bytes codes, scales, superScales, offsets, superOffsets, outliers;
    /// cols indices, each once, shared by copies; null = plane columns are the values' columns.
    std::shared_ptr<const std::vector<int32_t>> columnOrder;
    /// Ascending; null or at least one. Only with formats whose code 0 is the value 0, and without
    /// a column order.
    std::shared_ptr<const std::vector<int32_t>> outlierColumns;
    /// What one step of the int8 codes of its input is, found by calibration; 0 = not known.
    float inputScale = 0;

    int64_t outlierCount() const {
        return outlierColumns ? static_cast<int64_t>(outlierColumns->size()) : 0;
    }
    int64_t values() const { return rows * cols; }
    int64_t blocks() const { return (cols + 31) / 32; }
    /// Bytes that the planes take in memory.
    uint64_t planeBytes() const;
    /// Bytes by the format's exact bits per weight (what a file of this format needs), with those
    /// of outlier columns.
    uint64_t storedBytes() const;
};

/// Rows [begin, end) as float32, cols values each, by the format's definition (exact table, exact
/// scale product; with an offset the one rounding is the final addition).
void decodeRows(const Tensor& tensor, int64_t begin, int64_t end, float* out);

/// The whole tensor as float32 [rows][cols].
std::vector<float> decode(const Tensor& tensor);

/// One value of a quantized tensor, as decodeRows gives it.
float decodeValue(const Tensor& tensor, int64_t row, int64_t col);

/// The raw codes of one row in the order of its planes, cols bytes, unsigned except for 8-bit
/// formats (two's complement).
void unpackCodes(const Tensor& tensor, int64_t row, uint8_t* out);

/// The tensor with row order[i] of `tensor` as row i, bit-exactly; `order` may repeat and leave
/// out.
Tensor gatherRows(const Tensor& tensor, std::span<const int64_t> order);

/// Codes, scales and offsets being filled row by row; finish() gives the immutable Tensor.
/// Rows may be set from several threads as long as no row is set twice.
class TensorBuilder {
public:
    TensorBuilder(std::string name, const Format& format, int64_t rows, int64_t cols,
                  int64_t experts = 1);

    /// cols raw codes, one byte each.
    void setCodes(int64_t row, const uint8_t* codes);
    /// Raw scale bits of one group: f32 bits, f16/bf16 bits, or a byte.
    void setScale(int64_t row, int64_t group, uint32_t bits);
    void setSuperScale(int64_t row, int64_t super, uint16_t half);
    void setOffset(int64_t row, int64_t group, uint16_t bits);
    void setSuperOffset(int64_t row, int64_t super, uint16_t half);

    Tensor finish();

private:
    Tensor m_tensor;
    std::vector<uint32_t> m_codes;
    std::vector<uint8_t> m_scales, m_offsets;
    std::vector<uint16_t> m_superScales, m_superOffsets;
};

/// A float tensor from values (converted with round-to-nearest-even for f16 and bf16).
Tensor makeFloatTensor(std::string name, const Format& format, int64_t rows, int64_t cols,
                       std::span<const float> values);

} // namespace nibble
