// Products with int8 activations. Per block: exact integer sums for each group in it, then
// float32, one fused multiply-add after the other: as the scalar product.

namespace nibble {
namespace {

/// Bits of the bytes that dot() multiplies: entries of a table are signed bytes.
template <int bits, bool table>
constexpr int kDotBits = dotBits(table ? 8 : bits);
constexpr int32_t dotBias(int bits) {
    return bits == 8 ? kCodeBias8 : 0;
}

/// Codes as dot() wants them.
template <int bits, bool table>
struct DotCodes {
    I entries; ///< of the table

    explicit DotCodes(const Format& format) : entries(set1i(0)) {
        if constexpr (table) {
            int8_t biased[16];
            for (size_t i = 0; i < 16; ++i)
                biased[i] = static_cast<int8_t>(format.table->integer[i] ^ kCodeBias8);
            entries = loadTable(biased);
        }
    }
    TileBlock load(const Tile& tile, int64_t block) const {
        TileBlock codes = loadCodes<bits>(tile, block);
#pragma GCC unroll 8
        for (I& word : codes.words)
            if constexpr (table)
                word = entriesAt(entries, word);
            else if constexpr (bits == 8 && kCodeBias8 != 0)
                word = xori(word, setBytes(kCodeBias8));
        return codes;
    }
};

/// A product's input rows, and where the rows of a tile go: the first `count` lanes.
struct TileTask {
    Int8Rows input;
    int64_t inputStride;
    float* out;
    int64_t outStride, count;
};

/// `M` input rows from row `m` on. `halves`: groups of 16.
template <int bits, bool table, bool halves, Offsets offsets, int M, typename Groups>
inline void tileTimes(const Tile& tile, const Groups& groups, const DotCodes<bits, table>& reader,
                      const TileTask& task, int64_t m) {
    constexpr int kBits = kDotBits<bits, table>, kParts = halves ? 2 : 1;
    const int32_t centre = tile.format->zero + dotBias(kBits);
    const int64_t xStride = task.inputStride;
    const Int8Rows x{task.input.codes + m * xStride, task.input.scales + m * (xStride / 32),
                     task.input.sums + m * (xStride / 16)};
    V totals[M];
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j)
        totals[j] = zero();
    for (int64_t block = 0; block < tile.blocks; ++block) {
        V scales[kParts], shifts[kParts];
        I zeros[kParts];
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            const int64_t group = halves ? 2 * block + part : 2 * block >> tile.groupShift;
            scales[part] = groups.scale(group);
            if constexpr (offsets == Offsets::Value)
                shifts[part] = groups.offset(group);
            if constexpr (offsets == Offsets::Zero)
                zeros[part] = groups.zero(group);
        }
        const TileBlock codes = reader.load(tile, block);
        if constexpr (M == 1)
            fetchAhead<bits>(tile, block);
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) {
            const int64_t at = j * (xStride / 32) + block;
            const int32_t first = x.sums[2 * at], second = x.sums[2 * at + 1];
            const int32_t sums[2] = {halves ? first : first + second, second};
            const Halves products = dot<kBits, halves>(
                codes, x.codes + j * xStride + block * 32, set1i(-centre * sums[0]),
                halves ? set1i(-centre * sums[1]) : set1i(0));
            V value = zero();
#pragma GCC unroll 2
            for (int part = 0; part < kParts; ++part) {
                I product = part == 0 ? products.first : products.second;
                if constexpr (offsets == Offsets::Zero)
                    product = subi(product, muli(zeros[part], set1i(sums[part])));
                value = part == 0 ? mul(toFloat(product), scales[part])
                                  : fma(toFloat(product), scales[part], value);
                if constexpr (offsets == Offsets::Value)
                    value = fma(shifts[part], set1(static_cast<float>(sums[part])), value);
            }
            totals[j] = fma(value, set1(x.scales[at]), totals[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j)
        storeRows(task.out + (m + j) * task.outStride, totals[j], task.count);
}

template <int bits, bool table, bool halves, Offsets offsets, typename Groups>
inline void tileTimesAll(const Tile& tile, const Groups& groups, const DotCodes<bits, table>& codes,
                         const TileTask& task, int64_t rows) {
    int64_t m = 0;
    for (; m + kTileRows <= rows; m += kTileRows)
        tileTimes<bits, table, halves, offsets, kTileRows>(tile, groups, codes, task, m);
    for (; m + 2 <= rows; m += 2)
        tileTimes<bits, table, halves, offsets, 2>(tile, groups, codes, task, m);
    for (; m < rows; ++m)
        tileTimes<bits, table, halves, offsets, 1>(tile, groups, codes, task, m);
}

/// Where a tile's groups are read from: its planes, with scales in f16 or f32, or numbers made of
/// them beforehand.
enum class Scales { Half, Float, Made };

template <int bits, bool table, bool halves, Scales scales, Offsets offsets>
void tileProduct(const WeightView& weights, const ActivationRows& input, int64_t begin, int64_t end,
                 float* out, int64_t stride) {
    const TiledPlanes& tiles = *weights.tiles;
    const DotCodes<bits, table> codes(*tiles.format);
    TileTask task{input.int8(weights.activations), input.stride(), nullptr, stride, 0};
    Tile tile(tiles);
    TileGroups made{};
    if constexpr (scales == Scales::Made)
        made = placeGroups(tiles, threadScratch(size_t(groupRoom(tiles))));
    for (int64_t first = begin; first < end; first += kLanes) {
        tile.moveTo(first);
        task.out = out + first;
        task.count = end - first;
        if constexpr (scales == Scales::Made) {
            loadGroups(tile, made);
            tileTimesAll<bits, table, halves, offsets>(tile, made, codes, task, input.rows());
        } else {
            const PlainGroups<scales == Scales::Float> plain(tile);
            tileTimesAll<bits, table, halves, offsets>(tile, plain, codes, task, input.rows());
        }
    }
}

template <int bits, bool table, bool halves, Scales scales>
ProductKernel tileKernel(OffsetKind offset) {
    switch (offset) {
    case OffsetKind::Value:
    case OffsetKind::Code:
        return tileProduct<bits, table, halves, scales, Offsets::Value>;
    case OffsetKind::Zero:
        return tileProduct<bits, table, halves, scales, Offsets::Zero>;
    default:
        return tileProduct<bits, table, halves, scales, Offsets::None>;
    }
}

double spin(int64_t times) {
    constexpr int kRows = 4; // chains of dot() that hide its latency
    alignas(64) int8_t x[kRows][32];
    std::memset(x, 1, sizeof x);
    TileBlock block;
    for (I& word : block.words)
        word = setBytes(1);
    I first[kRows], second[kRows];
    for (int j = 0; j < kRows; ++j)
        first[j] = second[j] = set1i(0);
    for (int64_t t = 0; t < times; ++t) {
        asm volatile("" : : "r"(x) : "memory"); // they might have changed: no part is done before
#pragma GCC unroll 4
        for (int j = 0; j < kRows; ++j) {
            const Halves sums = dot<dotBits(4), true>(block, x[j], first[j], second[j]);
            first[j] = sums.first;
            second[j] = sums.second;
        }
    }
    uint32_t result[kLanes];
    uint32_t all = 0;
    for (int j = 0; j < kRows; ++j) {
        storeWords(result, addi(first[j], second[j]));
        all += result[0];
    }
    // The sum is known; comparing it keeps the loop from being optimised away.
    return all == static_cast<uint32_t>(times) * 32u * kRows
               ? 2.0 * 32 * kLanes * kRows * static_cast<double>(times)
               : 0;
}

template <int bits, bool table = false>
ProductKernel tileKernel(const Format& format) {
    if (format.group == 16)
        return tileKernel<bits, table, true, Scales::Made>(format.offset);
    // Four and eight bits are what plain formats mostly have.
    if constexpr ((bits == 4 || bits == 8) && !table)
        if (format.unit == 1 && format.offset != OffsetKind::Code) {
            if (format.scale == ScaleKind::F16)
                return tileKernel<bits, table, false, Scales::Half>(format.offset);
            if (format.scale == ScaleKind::F32)
                return tileKernel<bits, table, false, Scales::Float>(format.offset);
        }
    return tileKernel<bits, table, false, Scales::Made>(format.offset);
}

} // namespace
} // namespace nibble
