// Products of quantized weights with float activations. Every block of 32 columns starts four sums
// of its own, by column mod 4, which are then added up: short sums, and the same for any number of
// rows.

namespace nibble {
namespace {

constexpr int kFloatRows = kTileRows / 2; ///< input rows of one pass: four sums each

/// A table's entries by Format::unit, or nothing.
template <int bits, bool table>
struct CodeDecoder {
    FloatTable entries;
    V centre;

    explicit CodeDecoder(const Format& format) : entries{}, centre(set1(format.zero)) {
        if constexpr (table) {
            float values[16];
            for (size_t i = 0; i < 16; ++i)
                values[i] = float(double(format.table->exact[i]) / double(format.unit));
            entries = loadFloatTable(values);
        }
    }
    /// c − Format::zero of column 4d + `column` from word d.
    template <int column>
    V value(I word) const {
        if constexpr (table)
            return entriesAt(entries, shifted32<8 * column>(word));
        else if constexpr (bits == 8)
            return sub(toFloat(signedByte<column>(word)), centre);
        else
            return sub(toFloat(andi(shifted32<8 * column>(word), set1i(255))), centre);
    }
};

/// Weights of a tile as they are decoded.
template <int bits, bool table>
struct DecodedWeights {
    const Tile& tile;
    const TileGroups& groups;
    const CodeDecoder<bits, table>& decoder;
    bool hasOffset, hasZeros;

    /// Of a block: its codes, and the numbers of its halves.
    struct Block {
        const CodeDecoder<bits, table>& decoder;
        TileBlock codes;
        V scales[2], offsets[2], zeros[2];

        template <int d>
        void word(V* weights) const {
            constexpr int kHalf = d / 4;
            const I word = codes.words[d];
            weights[0] = decoder.template value<0>(word);
            weights[1] = decoder.template value<1>(word);
            weights[2] = decoder.template value<2>(word);
            weights[3] = decoder.template value<3>(word);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k)
                weights[k] = fma(sub(weights[k], zeros[kHalf]), scales[kHalf], offsets[kHalf]);
        }
    };
    Block block(int64_t at) const {
        Block block{decoder, loadCodes<bits>(tile, at), {}, {}, {}};
        for (int half = 0; half < 2; ++half) {
            const int64_t group = (2 * at + half) >> tile.groupShift;
            block.scales[half] = groups.scale(group);
            block.offsets[half] = hasOffset ? groups.offset(group) : zero();
            block.zeros[half] = hasZeros ? toFloat(groups.zero(group)) : zero();
        }
        return block;
    }
};

/// Weights that were decoded before, from block 0 on.
struct StoredWeights {
    const float* values;

    struct Block {
        const float* values;
        template <int d>
        void word(V* weights) const {
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k)
                weights[k] = load(values + (d * 4 + k) * kLanes);
        }
    };
    Block block(int64_t at) const {
        return {values + at * 32 * kLanes};
    }
};

/// parts[row][column mod 4] of the columns of word `d` and those after it.
template <int M, int d, typename Block>
inline void addWords(const Block& block, const float* x, int64_t stride, V (*parts)[4]) {
    V weights[4];
    block.template word<d>(weights);
#pragma GCC unroll 4
    for (int j = 0; j < M; ++j)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            const V value = set1(x[j * stride + 4 * d + k]);
            parts[j][k] = d == 0 ? mul(weights[k], value) : fma(weights[k], value, parts[j][k]);
        }
    if constexpr (d < 7)
        addWords<M, d + 1>(block, x, stride, parts);
}

/// Adds `count` blocks of `M` rows to `sums`; `x` is the first row at the first block's columns.
template <int M, typename Weights>
inline void addBlocks(const Weights& weights, int64_t first, int64_t count, const float* x,
                      int64_t stride, float* sums) {
    for (int64_t i = 0; i < count; ++i) {
        V parts[M][4];
        addWords<M, 0>(weights.block(first + i), x + i * 32, stride, parts);
#pragma GCC unroll 4
        for (int j = 0; j < M; ++j) {
            const V sum = add(add(parts[j][0], parts[j][1]), add(parts[j][2], parts[j][3]));
            store(sums + j * kLanes, add(load(sums + j * kLanes), sum));
        }
    }
}

template <int d, typename Block>
inline void storeWeights(const Block& block, float* out) {
    V weights[4];
    block.template word<d>(weights);
    for (int k = 0; k < 4; ++k)
        store(out + (d * 4 + k) * kLanes, weights[k]);
    if constexpr (d < 7)
        storeWeights<d + 1>(block, out);
}

/// One row decodes as it goes; more share what was decoded once, some blocks at a time.
template <int bits, bool table>
void floatTileProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                      int64_t end, float* out, int64_t stride) {
    constexpr int kBlocks = 8; ///< a quarter of a level 1 cache of 64 KiB, half of one of 32 KiB
    const TiledPlanes& tiles = *weights.tiles;
    const Format& format = *tiles.format;
    const int64_t rows = input.rows(), xStride = input.stride();
    float* room = threadScratch(size_t(groupRoom(tiles) + rows * kLanes));
    const TileGroups groups = placeGroups(tiles, room);
    float* sums = room + groupRoom(tiles);
    const CodeDecoder<bits, table> decoder(format);
    Tile tile(tiles);
    alignas(64) float stored[kBlocks * 32 * kLanes];
    for (int64_t first = begin; first < end; first += kLanes) {
        tile.moveTo(first);
        loadGroups(tile, groups);
        const DecodedWeights<bits, table> decoded{tile, groups, decoder,
                                                  format.offset == OffsetKind::Value ||
                                                      format.offset == OffsetKind::Code,
                                                  format.offset == OffsetKind::Zero};
        std::memset(sums, 0, size_t(rows) * kLanes * sizeof(float));
        if (rows == 1)
            addBlocks<1>(decoded, 0, tile.blocks, input.row(0), 0, sums);
        for (int64_t from = 0; rows > 1 && from < tile.blocks; from += kBlocks) {
            const int64_t count = tile.blocks - from < kBlocks ? tile.blocks - from : kBlocks;
            for (int64_t i = 0; i < count; ++i)
                storeWeights<0>(decoded.block(from + i), stored + i * 32 * kLanes);
            const float* x = input.row(0) + from * 32;
            int64_t m = 0;
            for (; m + kFloatRows <= rows; m += kFloatRows)
                addBlocks<kFloatRows>(StoredWeights{stored}, 0, count, x + m * xStride, xStride,
                                      sums + m * kLanes);
            for (; m < rows; ++m)
                addBlocks<1>(StoredWeights{stored}, 0, count, x + m * xStride, 0,
                             sums + m * kLanes);
        }
        for (int64_t m = 0; m < rows; ++m)
            storeRows(out + m * stride + first, load(sums + m * kLanes), end - first);
    }
}

} // namespace
} // namespace nibble
