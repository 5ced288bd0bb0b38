// Products of float weights: rows of canonical planes, 32 columns at a time.

namespace nibble {
namespace {

enum class Source { F32, F16, BF16 };

/// Weights of a row from column `from` on, 32 of them or what is left.
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

/// Four weight rows times `M` input rows; rows beyond `end` repeat the last one.
template <Source source, int M>
inline void rowsTimes(const Tensor& tensor, const ActivationRows& input, int64_t m, int64_t begin,
                      int64_t end, float* out, int64_t stride) {
    constexpr int kRows = 4;
    constexpr int64_t kWidth = source == Source::F32 ? 4 : 2;
    V sums[kRows][M];
    for (auto& row : sums)
        for (V& sum : row)
            sum = zero();
    for (int64_t at = 0; at < tensor.cols; at += 32)
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const int64_t row = begin + r < end ? begin + r : end - 1;
            V weights[kPieces];
            loadFloats<source>(tensor.codes.data() + (row * tensor.cols + at) * kWidth,
                               tensor.cols - at, weights);
#pragma GCC unroll 8
            for (int j = 0; j < M; ++j)
#pragma GCC unroll 8
                for (int i = 0; i < kPieces; ++i)
                    sums[r][j] =
                        fma(weights[i], load(input.row(m + j) + at + i * kLanes), sums[r][j]);
        }
    for (int r = 0; r < kRows && begin + r < end; ++r)
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j)
            out[(m + j) * stride + begin + r] = sumOf(sums[r][j]);
}

template <Source source>
void rowProduct(const WeightView& weights, const ActivationRows& input, int64_t begin, int64_t end,
                float* out, int64_t stride) {
    for (int64_t row = begin; row < end; row += 4) {
        int64_t m = 0;
        for (; m + 4 <= input.rows(); m += 4)
            rowsTimes<source, 4>(*weights.tensor, input, m, row, end, out, stride);
        for (; m < input.rows(); ++m)
            rowsTimes<source, 1>(*weights.tensor, input, m, row, end, out, stride);
    }
}

} // namespace
} // namespace nibble
