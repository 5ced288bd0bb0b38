#include "core/tensor/layout.h"

#include "core/base/parallel.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cstring>

namespace nibble {
namespace {

constexpr int64_t kRows = TiledPlanes::kRows;

/// Index of a record's word in the tiles of one plane.
int64_t wordAt(const TiledPlanes& tiles, int bits, int64_t row, int64_t block, int word) {
    const int64_t tile = (row / kRows * tiles.blocks() + block) * kRows * bits;
    const int64_t lane = row % kRows;
    return tile + (tiles.order == TileOrder::Rows ? lane * bits + word : word * kRows + lane);
}

/// Moves the words of one code plane, in the direction that `move(canonical, tiled)` says.
template <typename Move>
void eachWord(const TiledPlanes& tiles, int bits, const Move& move) {
    parallelFor(static_cast<size_t>(tiles.rowTiles()), 8, [&](size_t begin, size_t end) {
        const int64_t last = std::min(tiles.rows, static_cast<int64_t>(end) * kRows);
        for (int64_t row = static_cast<int64_t>(begin) * kRows; row < last; ++row)
            for (int64_t block = 0; block < tiles.blocks(); ++block)
                for (int word = 0; word < bits; ++word)
                    move(static_cast<size_t>((row * tiles.blocks() + block) * bits + word),
                         static_cast<size_t>(wordAt(tiles, bits, row, block, word)));
    });
}

LargeVector<uint8_t> tileFields(const Bytes& plane, int64_t rows, int64_t perRow, size_t width) {
    if (plane.empty())
        return {};
    LargeVector<uint8_t> out(static_cast<size_t>((rows + kRows - 1) / kRows * kRows * perRow) *
                             width);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < perRow; ++i)
            std::memcpy(out.data() +
                            static_cast<size_t>((row / kRows * perRow + i) * kRows + row % kRows) *
                                width,
                        plane.data() + static_cast<size_t>(row * perRow + i) * width, width);
    return out;
}

Bytes untileFields(const LargeVector<uint8_t>& tiled, int64_t rows, int64_t perRow, size_t width) {
    if (tiled.empty())
        return {};
    std::vector<uint8_t> out(static_cast<size_t>(rows * perRow) * width);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < perRow; ++i)
            std::memcpy(out.data() + static_cast<size_t>(row * perRow + i) * width,
                        tiled.data() +
                            static_cast<size_t>((row / kRows * perRow + i) * kRows + row % kRows) *
                                width,
                        width);
    return Bytes::of(std::move(out));
}

/// A plane's fields of one row of a tile, as a row of their own.
Bytes rowFields(const LargeVector<uint8_t>& tiled, int64_t row, int64_t perRow, size_t width) {
    if (tiled.empty())
        return {};
    std::vector<uint8_t> out(static_cast<size_t>(perRow) * width);
    for (int64_t i = 0; i < perRow; ++i)
        std::memcpy(out.data() + static_cast<size_t>(i) * width,
                    tiled.data() +
                        static_cast<size_t>((row / kRows * perRow + i) * kRows + row % kRows) *
                            width,
                    width);
    return Bytes::of(std::move(out));
}

} // namespace

TiledPlanes toTiles(const Tensor& tensor, TileOrder order) {
    const Format& format = *tensor.format;
    TiledPlanes tiles;
    tiles.format = &format;
    tiles.rows = tensor.rows;
    tiles.cols = tensor.cols;
    tiles.experts = tensor.experts;
    tiles.order = order;
    const auto records = static_cast<size_t>(tiles.rowTiles() * tiles.blocks() * kRows);
    tiles.highPlane = records * static_cast<size_t>(format.lowBits());
    tiles.codes.resize(tiles.highPlane + records * static_cast<size_t>(format.highBits()));
    const auto from = tensor.codes.as<uint32_t>();
    const auto lowWords = static_cast<size_t>(lowPlaneWords(tensor));
    eachWord(tiles, format.lowBits(),
             [&](size_t canonical, size_t tiled) { tiles.codes[tiled] = from[canonical]; });
    eachWord(tiles, format.highBits(), [&](size_t canonical, size_t tiled) {
        tiles.codes[tiles.highPlane + tiled] = from[lowWords + canonical];
    });
    const int64_t groups = format.groupCount(tensor.cols), supers = format.superCount(tensor.cols);
    tiles.scales =
        tileFields(tensor.scales, tensor.rows, groups, static_cast<size_t>(scaleBytes(format)));
    tiles.offsets =
        tileFields(tensor.offsets, tensor.rows, groups, static_cast<size_t>(offsetBytes(format)));
    tiles.superScales = tileFields(tensor.superScales, tensor.rows, supers, 2);
    tiles.superOffsets = tileFields(tensor.superOffsets, tensor.rows, supers, 2);
    tiles.outlierColumns = tensor.outlierColumns;
    tiles.outliers = tileFields(tensor.outliers, tensor.rows, tensor.outlierCount(), 2);
    return tiles;
}

Tensor fromTiles(const TiledPlanes& tiles, std::string name) {
    const Format& format = *tiles.format;
    Tensor tensor;
    tensor.name = std::move(name);
    tensor.format = &format;
    tensor.rows = tiles.rows;
    tensor.cols = tiles.cols;
    tensor.experts = tiles.experts;
    const auto lowWords = static_cast<size_t>(lowPlaneWords(tensor));
    std::vector<uint32_t> codes(lowWords + static_cast<size_t>(highPlaneWords(tensor)));
    eachWord(tiles, format.lowBits(),
             [&](size_t canonical, size_t tiled) { codes[canonical] = tiles.codes[tiled]; });
    eachWord(tiles, format.highBits(), [&](size_t canonical, size_t tiled) {
        codes[lowWords + canonical] = tiles.codes[tiles.highPlane + tiled];
    });
    tensor.codes = Bytes::of(std::move(codes));
    const int64_t groups = format.groupCount(tiles.cols), supers = format.superCount(tiles.cols);
    tensor.scales =
        untileFields(tiles.scales, tiles.rows, groups, static_cast<size_t>(scaleBytes(format)));
    tensor.offsets =
        untileFields(tiles.offsets, tiles.rows, groups, static_cast<size_t>(offsetBytes(format)));
    tensor.superScales = untileFields(tiles.superScales, tiles.rows, supers, 2);
    tensor.superOffsets = untileFields(tiles.superOffsets, tiles.rows, supers, 2);
    tensor.outlierColumns = tiles.outlierColumns;
    tensor.outliers = untileFields(tiles.outliers, tiles.rows, tiles.outlierCount(), 2);
    return tensor;
}

void decodeTiledRow(const TiledPlanes& tiles, int64_t row, float* out) {
    const Format& format = *tiles.format;
    Tensor one;
    one.format = &format;
    one.rows = 1;
    one.cols = tiles.cols;
    const auto lowWords = static_cast<size_t>(lowPlaneWords(one));
    std::vector<uint32_t> codes(lowWords + static_cast<size_t>(highPlaneWords(one)));
    size_t at = 0;
    for (const int bits : {format.lowBits(), format.highBits()}) {
        const size_t plane = at == 0 ? 0 : tiles.highPlane;
        for (int64_t block = 0; block < tiles.blocks(); ++block)
            for (int word = 0; word < bits; ++word)
                codes[at++] =
                    tiles.codes[plane + static_cast<size_t>(wordAt(tiles, bits, row, block, word))];
    }
    one.codes = Bytes::of(std::move(codes));
    const int64_t groups = format.groupCount(tiles.cols), supers = format.superCount(tiles.cols);
    one.scales = rowFields(tiles.scales, row, groups, static_cast<size_t>(scaleBytes(format)));
    one.offsets = rowFields(tiles.offsets, row, groups, static_cast<size_t>(offsetBytes(format)));
    one.superScales = rowFields(tiles.superScales, row, supers, 2);
    one.superOffsets = rowFields(tiles.superOffsets, row, supers, 2);
    one.outlierColumns = tiles.outlierColumns;
    one.outliers = rowFields(tiles.outliers, row, tiles.outlierCount(), 2);
    decodeRows(one, 0, 1, out);
}

float decodeTiledCode(const TiledPlanes& tiles, int64_t row, int64_t col) {
    const Format& f = *tiles.format;
    const int64_t block = col / 32, lane = row % kRows, tile = row / kRows;
    uint8_t codes[32] = {};
    const auto unpack = [&](int bits, size_t plane, int shift) {
        uint32_t record[8] = {};
        for (int word = 0; word < bits; ++word)
            record[word] =
                tiles.codes[plane + static_cast<size_t>(wordAt(tiles, bits, row, block, word))];
        unpackRecord(bits, reinterpret_cast<const uint8_t*>(record), shift, codes);
    };
    unpack(f.lowBits(), 0, 0);
    if (f.highBits() != 0)
        unpack(f.highBits(), tiles.highPlane, f.lowBits());
    const auto field = [&](const LargeVector<uint8_t>& plane, int64_t perRow, int64_t i,
                           int width) {
        uint32_t bits = 0;
        if (!plane.empty())
            std::memcpy(&bits,
                        plane.data() + static_cast<size_t>((tile * perRow + i) * kRows + lane) *
                                           static_cast<size_t>(width),
                        static_cast<size_t>(width));
        return bits;
    };
    const int64_t groups = f.groupCount(tiles.cols), supers = f.superCount(tiles.cols);
    const int64_t group = col / f.groupLength(tiles.cols), super = f.super ? col / f.super : 0;
    const GroupBits bits{
        .scale = field(tiles.scales, groups, group, scaleBytes(f)),
        .offset = static_cast<uint16_t>(field(tiles.offsets, groups, group, offsetBytes(f))),
        .superScale = static_cast<uint16_t>(field(tiles.superScales, supers, super, 2)),
        .superOffset = static_cast<uint16_t>(field(tiles.superOffsets, supers, super, 2))};
    return decodeCode(f, groupValues(f, bits), codes[col % 32]);
}

} // namespace nibble
