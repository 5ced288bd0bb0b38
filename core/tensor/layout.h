#pragma once

#include "core/base/large_allocator.h"
#include "core/tensor/tensor.h"

#include <vector>

namespace nibble {

/// Order of a tile's words. Rows: each row's record after the other, as one invocation of a GPU
/// reads it. Words: the first word of all 16 rows, then the second, …, as one vector register
/// that holds a row in each lane reads it.
enum class TileOrder : uint8_t { Rows, Words };

/// A Layout of canonical planes (permuted raw bits, nothing else): tiles of 16 rows × 32 columns;
/// rows beyond the last are zero bits.
struct TiledPlanes {
    static constexpr int64_t kRows = 16;

    const Format* format = nullptr;
    int64_t rows = 0, cols = 0, experts = 1;
    TileOrder order = TileOrder::Rows;
    /// Low plane, then high plane (from word `highPlane` on): [row tile][block of 32 columns] tiles
    /// of 16 records.
    LargeVector<uint32_t> codes;
    size_t highPlane = 0;
    /// Raw bits, [row tile][group or super-group][16 rows].
    LargeVector<uint8_t> scales, superScales, offsets, superOffsets;
    /// f16 bits of the outlier columns, [row tile][k][16 rows]; the columns as in Tensor.
    LargeVector<uint8_t> outliers;
    std::shared_ptr<const std::vector<int32_t>> outlierColumns;

    int64_t outlierCount() const {
        return outlierColumns ? static_cast<int64_t>(outlierColumns->size()) : 0;
    }
    int64_t rowTiles() const { return (rows + kRows - 1) / kRows; }
    int64_t blocks() const { return (cols + 31) / 32; }
    uint64_t bytes() const {
        return codes.size() * 4 + scales.size() + superScales.size() + offsets.size() +
               superOffsets.size() + outliers.size() + static_cast<uint64_t>(outlierCount()) * 4;
    }
};

/// Both are exact inverses of each other. `tensor` has a quantized format.
TiledPlanes toTiles(const Tensor& tensor, TileOrder order);
Tensor fromTiles(const TiledPlanes& tiles, std::string name);

/// One row as float32, cols values, by the format's definition (as decodeRows gives it).
void decodeTiledRow(const TiledPlanes& tiles, int64_t row, float* out);
/// One value of it that is no outlier column's.
float decodeTiledCode(const TiledPlanes& tiles, int64_t row, int64_t col);

} // namespace nibble
