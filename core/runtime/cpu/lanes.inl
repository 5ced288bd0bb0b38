// The vector kernels, written once over the lanes (V, I, kLanes, load, fma, dot, …) that the
// including file defines for its instruction set.

namespace nibble {
namespace {

constexpr int kPieces = 32 / kLanes; ///< vectors of 32 values

void norm(const float* x, const float* weight, float epsilon, int64_t count, float* out) {
    V sums[2] = {zero(), zero()};
    int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes)
        for (int j = 0; j < 2; ++j) {
            const V v = load(x + i + j * kLanes);
            sums[j] = fma(v, v, sums[j]);
        }
    float squares = sumOf(add(sums[0], sums[1]));
    for (int64_t k = i; k < count; ++k)
        squares += x[k] * x[k];
    const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + epsilon);
    const V scales = set1(scale);
    for (i = 0; i + kLanes <= count; i += kLanes)
        store(out + i, mul(mul(load(x + i), scales), load(weight + i)));
    for (; i < count; ++i)
        out[i] = x[i] * scale * weight[i];
}

/// e^x to about 2 units in the last place: 2^n times a polynomial on ±ln 2 / 2 (coefficients of
/// Cephes' expf). NaN stays NaN.
inline V exponential(V x) {
    x = most(set1(-87.3f), least(set1(88.3f), x));
    const V n = nearest(mul(x, set1(1.44269504088896341f)));
    V r = fma(n, set1(-0.693359375f), x);
    r = fma(n, set1(2.12194440e-4f), r);
    V p = set1(1.9875691500e-4f);
    p = fma(p, r, set1(1.3981999507e-3f));
    p = fma(p, r, set1(8.3334519073e-3f));
    p = fma(p, r, set1(4.1665795894e-2f));
    p = fma(p, r, set1(1.6666665459e-1f));
    p = fma(p, r, set1(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, set1(1.0f)));
    return mul(p, power2(n));
}

inline V gated(V gate, V up) {
    const V below = add(set1(1.0f), exponential(sub(zero(), gate)));
    return mul(div(gate, below), up);
}

void gate(float* gate, const float* up, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        store(gate + i, gated(load(gate + i), load(up + i)));
    if (i == count)
        return;
    float lastGate[kLanes] = {}, lastUp[kLanes] = {};
    std::memcpy(lastGate, gate + i, size_t(count - i) * sizeof(float));
    std::memcpy(lastUp, up + i, size_t(count - i) * sizeof(float));
    store(lastGate, gated(load(lastGate), load(lastUp)));
    std::memcpy(gate + i, lastGate, size_t(count - i) * sizeof(float));
}

void quantize(const float* x, int64_t count, int block, int8_t* codes, float* scales,
              int32_t* sums) {
    const int64_t length = block == 0 ? count : block;
    for (int64_t from = 0; from < count; from += length) {
        const int64_t end = count - from < length ? count : from + length;
        V largest = zero(), check = zero();
        for (int64_t i = from; i < end; i += kLanes) {
            const V v = load(x + i);
            largest = most(magnitude(v), largest);
            check = add(check, sub(v, v)); // not 0 where a value is NaN or infinite
        }
        const float checked = sumOf(check);
        const bool broken = checked != checked;
        const float scale = mostOf(largest) / 127;
        const V inverse = set1(scale > 0 && !broken ? 1 / scale : 0);
        const float kept = broken       ? __builtin_nanf("")
                           : block == 0 ? scale
                                        : halfToFloat(floatToHalf(scale));
        // Adding the largest float below 1/2 before cutting off rounds halves away from zero.
        const V half = set1(0x1.fffffep-2f);
        for (int64_t at = from; at < end; at += 32) {
            int32_t sum = 0;
            for (int64_t i = at; i < at + 32; i += kLanes) {
                V scaled = zero();
                if (!broken)
                    scaled = mul(load(x + i), inverse);
                sum += storeCodes(codes + i, truncated(add(scaled, withSignOf(half, scaled))));
            }
            scales[at / 32] = kept;
            sums[at / 32] = sum;
        }
    }
}

// Products with float activations: rows of canonical planes, 32 columns at a time.

enum class Source { F32, F16, BF16, Int8, Int4 };

/// What a block of 32 weights is made of.
struct RowSource {
    const std::byte* codes;
    const std::byte *scales, *offsets;
    const Format* format;
    int64_t cols, blocks, groups, blocksPerGroup;
};

template <Source source>
inline void loadFloats(const std::byte* p, int64_t left, V* out) {
    constexpr size_t kWidth = source == Source::F32 ? 4 : 2;
    alignas(64) std::byte padded[32 * kWidth];
    if (left < 32) {
        std::memset(padded, 0, sizeof padded);
        std::memcpy(padded, p, size_t(left) * kWidth);
        p = padded;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
        if constexpr (source == Source::F32)
            out[i] = load(reinterpret_cast<const float*>(p) + i * kLanes);
        else if constexpr (source == Source::F16)
            out[i] = loadHalf(reinterpret_cast<const uint16_t*>(p) + i * kLanes);
        else
            out[i] = loadBfloat(reinterpret_cast<const uint16_t*>(p) + i * kLanes);
}

/// Weights of block `block` of a row as floats.
template <Source source>
inline void loadWeights(const RowSource& from, int64_t row, int64_t block, V* out) {
    if constexpr (source == Source::F32 || source == Source::F16 || source == Source::BF16) {
        constexpr int64_t kWidth = source == Source::F32 ? 4 : 2;
        loadFloats<source>(from.codes + (row * from.cols + block * 32) * kWidth,
                           from.cols - block * 32, out);
    } else {
        const Format& format = *from.format;
        const auto group = size_t(row * from.groups + block / from.blocksPerGroup);
        const float scaleValue =
            format.scale == ScaleKind::F32
                ? reinterpret_cast<const float*>(from.scales)[group]
                : halfToFloat(reinterpret_cast<const uint16_t*>(from.scales)[group]);
        int centre = format.zero;
        float offsetValue = 0;
        if (format.offset == OffsetKind::Zero)
            centre += int(from.offsets[group]);
        else if (format.offset == OffsetKind::Value)
            offsetValue = halfToFloat(reinterpret_cast<const uint16_t*>(from.offsets)[group]);
        const V scale = set1(scaleValue), offset = set1(offsetValue);
        const V centres = set1(static_cast<float>(centre));
        constexpr int64_t kBytes = source == Source::Int8 ? 32 : 16;
        const auto* codes =
            reinterpret_cast<const uint8_t*>(from.codes) + (row * from.blocks + block) * kBytes;
#pragma GCC unroll 8
        for (int i = 0; i < kPieces; ++i) {
            V code;
            if constexpr (source == Source::Int8)
                code = loadInt8(codes + i * kLanes);
            else
                code = loadNibbles(codes + i * kLanes % 16, i * kLanes / 16);
            out[i] = fma(sub(code, centres), scale, offset);
        }
    }
}

/// Four weight rows times `M` input rows; rows beyond `end` repeat the last one.
template <Source source, int M>
inline void rowsTimes(const RowSource& from, const ActivationRows& input, int64_t m, int64_t begin,
                      int64_t end, float* out, int64_t stride) {
    constexpr int kRows = 4;
    V sums[kRows][M];
    for (auto& row : sums)
        for (V& sum : row)
            sum = zero();
    for (int64_t block = 0; block < from.blocks; ++block)
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            V weights[kPieces];
            loadWeights<source>(from, begin + r < end ? begin + r : end - 1, block, weights);
#pragma GCC unroll 8
            for (int j = 0; j < M; ++j)
#pragma GCC unroll 8
                for (int i = 0; i < kPieces; ++i)
                    sums[r][j] = fma(weights[i], load(input.row(m + j) + block * 32 + i * kLanes),
                                     sums[r][j]);
        }
    for (int r = 0; r < kRows && begin + r < end; ++r)
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j)
            out[(m + j) * stride + begin + r] = sumOf(sums[r][j]);
}

template <Source source>
void rowProduct(const WeightView& weights, const ActivationRows& input, int64_t begin, int64_t end,
                float* out, int64_t stride) {
    const Tensor& tensor = *weights.tensor;
    const int64_t group = tensor.format->group;
    const RowSource from{tensor.codes.data(),
                         tensor.scales.data(),
                         tensor.offsets.data(),
                         tensor.format,
                         tensor.cols,
                         (tensor.cols + 31) / 32,
                         tensor.format->groupCount(tensor.cols),
                         group == 0 ? INT64_MAX : group / 32};
    for (int64_t row = begin; row < end; row += 4) {
        int64_t m = 0;
        for (; m + 4 <= input.rows(); m += 4)
            rowsTimes<source, 4>(from, input, m, row, end, out, stride);
        for (; m < input.rows(); ++m)
            rowsTimes<source, 1>(from, input, m, row, end, out, stride);
    }
}

// Products with int8 activations: tiles of 16 rows, a row in each lane.

enum class Offsets { None, Value, Zero };

struct TileSource {
    const uint32_t* codes; ///< of the tile, its lanes
    const uint8_t* scales; ///< of the tile
    const uint8_t* offsets;
    int64_t blocks, blocksPerGroup;
    int lane; ///< first row of the tile that lane 0 holds
    int32_t centre;
};

template <int bits, bool wideScale, Offsets offsets, int M>
inline void tileTimes(const TileSource& tile, const Int8Rows& x, int64_t xStride, V* sums) {
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j)
        sums[j] = zero();
    V scale = zero(), offset = zero();
    I centres = set1i(0);
    int64_t group = -1, left = 0;
    for (int64_t block = 0; block < tile.blocks; ++block) {
        if (left-- == 0) {
            left = tile.blocksPerGroup - 1;
            const int64_t at = ++group * 16 + tile.lane;
            if constexpr (wideScale)
                scale = load(reinterpret_cast<const float*>(tile.scales) + at);
            else
                scale = loadHalf(reinterpret_cast<const uint16_t*>(tile.scales) + at);
            if constexpr (offsets == Offsets::Value)
                offset = loadHalf(reinterpret_cast<const uint16_t*>(tile.offsets) + at);
            if constexpr (offsets == Offsets::Zero)
                centres = loadBytesAsInts(tile.offsets + at);
        }
        const TileBlock weights = loadBlock<bits>(tile.codes + block * bits * 16);
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) {
            const int64_t xBlock = j * (xStride / 32) + block;
            const int32_t sum = x.sums[xBlock];
            I product =
                dot<bits>(weights, x.codes + j * xStride + block * 32, set1i(-tile.centre * sum));
            if constexpr (offsets == Offsets::Zero)
                product = subi(product, muli(centres, set1i(sum)));
            V value = mul(toFloat(product), scale);
            if constexpr (offsets == Offsets::Value)
                value = fma(offset, set1(static_cast<float>(sum)), value);
            sums[j] = fma(value, set1(x.scales[xBlock]), sums[j]);
        }
    }
}

template <int bits, bool wideScale, Offsets offsets, int M>
inline void tileRows(const TileSource& tile, const Int8Rows& all, const ActivationRows& input,
                     int64_t m, int64_t firstRow, int64_t end, float* out, int64_t stride) {
    const int64_t xStride = input.stride();
    const Int8Rows x{all.codes + m * xStride, all.scales + m * (xStride / 32),
                     all.sums + m * (xStride / 32)};
    V sums[M];
    tileTimes<bits, wideScale, offsets, M>(tile, x, xStride, sums);
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j) {
        float* to = out + (m + j) * stride + firstRow;
        if (firstRow + kLanes <= end) {
            store(to, sums[j]);
        } else {
            float lanes[kLanes];
            store(lanes, sums[j]);
            for (int64_t r = 0; firstRow + r < end; ++r)
                to[r] = lanes[r];
        }
    }
}

template <int bits, bool wideScale, Offsets offsets>
void tileProduct(const WeightView& weights, const ActivationRows& input, int64_t begin, int64_t end,
                 float* out, int64_t stride) {
    const TiledPlanes& tiles = *weights.tiles;
    const Format& format = *tiles.format;
    const Int8Rows x = input.int8(weights.activations);
    const int64_t blocks = tiles.blocks(), groups = format.groupCount(tiles.cols);
    TileSource tile{nullptr,
                    nullptr,
                    nullptr,
                    blocks,
                    format.group == 0 ? INT64_MAX : format.group / 32,
                    0,
                    format.zero + (bits == 8 ? kCodeBias8 : 0)};
    for (int64_t first = begin; first < end; first += 16) {
        const int64_t index = first / 16;
        tile.scales = tiles.scales.data() + index * groups * 16 * (wideScale ? 4 : 2);
        tile.offsets =
            tiles.offsets.data() + index * groups * 16 * (offsets == Offsets::Value ? 2 : 1);
        for (int lane = 0; lane < 16 && first + lane < end; lane += kLanes) {
            tile.codes = tiles.codes.data() + index * blocks * bits * 16 + lane;
            tile.lane = lane;
            int64_t m = 0;
            for (; m + kTileRows <= input.rows(); m += kTileRows)
                tileRows<bits, wideScale, offsets, kTileRows>(tile, x, input, m, first + lane, end,
                                                              out, stride);
            for (; m + 2 <= input.rows(); m += 2)
                tileRows<bits, wideScale, offsets, 2>(tile, x, input, m, first + lane, end, out,
                                                      stride);
            for (; m < input.rows(); ++m)
                tileRows<bits, wideScale, offsets, 1>(tile, x, input, m, first + lane, end, out,
                                                      stride);
        }
    }
}

template <int bits, bool wideScale>
ProductKernel tileKernel(OffsetKind offset) {
    switch (offset) {
    case OffsetKind::Value:
        return tileProduct<bits, wideScale, Offsets::Value>;
    case OffsetKind::Zero:
        return tileProduct<bits, wideScale, Offsets::Zero>;
    default:
        return tileProduct<bits, wideScale, Offsets::None>;
    }
}

ProductChoice choose(const Format& format, int64_t, ActivationFormat activations) {
    switch (format.code) {
    case CodeKind::Float32:
        return {rowProduct<Source::F32>, false, kRowPath};
    case CodeKind::Float16:
        return {rowProduct<Source::F16>, false, kRowPath};
    case CodeKind::BFloat16:
        return {rowProduct<Source::BF16>, false, kRowPath};
    default:
        break;
    }
    if (!isPlainInteger(format))
        return {};
    if (activations == ActivationFormat::Float)
        return {format.bits == 8 ? rowProduct<Source::Int8> : rowProduct<Source::Int4>, false,
                kRowPath};
    const bool wide = format.scale == ScaleKind::F32;
    if (format.bits == 8)
        return {wide ? tileKernel<8, true>(format.offset) : tileKernel<8, false>(format.offset),
                true, kTilePath};
    return {wide ? tileKernel<4, true>(format.offset) : tileKernel<4, false>(format.offset), true,
            kTilePath};
}

} // namespace
} // namespace nibble
