#if defined(__x86_64__)
#include "core/base/half.h"
#include "core/runtime/cpu/kernels.h"
#include "core/tensor/planes.h"

#include <cstring>
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace nibble {
namespace {

using V = __m256;
using I = __m256i;
constexpr int kLanes = 8;
constexpr int kTileRows = 4; ///< input rows of one pass over a tile: what registers hold
constexpr int kCodeBias8 = 0;

inline V load(const float* p) {
    return _mm256_loadu_ps(p);
}
inline void store(float* p, V v) {
    _mm256_storeu_ps(p, v);
}
inline V set1(float x) {
    return _mm256_set1_ps(x);
}
inline V zero() {
    return _mm256_setzero_ps();
}
inline V add(V a, V b) {
    return _mm256_add_ps(a, b);
}
inline V sub(V a, V b) {
    return _mm256_sub_ps(a, b);
}
inline V mul(V a, V b) {
    return _mm256_mul_ps(a, b);
}
inline V div(V a, V b) {
    return _mm256_div_ps(a, b);
}
inline V fma(V a, V b, V c) {
    return _mm256_fmadd_ps(a, b, c);
}
/// The second operand where one is NaN.
inline V least(V a, V b) {
    return _mm256_min_ps(a, b);
}
inline V most(V a, V b) {
    return _mm256_max_ps(a, b);
}
inline V magnitude(V a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
inline V nearest(V a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline V truncated(V a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
inline V withSignOf(V a, V sign) {
    return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
inline float sumOf(V a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float mostOf(V a) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
inline int32_t sumOfInts(I a) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}
inline V power2(V whole) {
    const I e = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
inline V loadHalf(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline V loadBfloat(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
/// Stores whole numbers as bytes and gives their sum.
inline int32_t storeCodes(int8_t* p, V whole) {
    const I codes = _mm256_cvtps_epi32(whole);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    return sumOfInts(codes);
}
inline I set1i(int32_t x) {
    return _mm256_set1_epi32(x);
}
inline I subi(I a, I b) {
    return _mm256_sub_epi32(a, b);
}
inline I muli(I a, I b) {
    return _mm256_mullo_epi32(a, b);
}
inline V toFloat(I a) {
    return _mm256_cvtepi32_ps(a);
}
inline I loadBytesAsInts(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

inline V asFloat(I a) {
    return _mm256_castsi256_ps(a);
}
inline I addi(I a, I b) {
    return _mm256_add_epi32(a, b);
}
inline I andi(I a, I b) {
    return _mm256_and_si256(a, b);
}
inline I ori(I a, I b) {
    return _mm256_or_si256(a, b);
}
inline I xori(I a, I b) {
    return _mm256_xor_si256(a, b);
}
inline I setBytes(int x) {
    return _mm256_set1_epi8(static_cast<char>(x));
}
inline I loadWords(const uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const I*>(p));
}
inline void storeWords(uint32_t* p, I words) {
    _mm256_storeu_si256(reinterpret_cast<I*>(p), words);
}
/// Shifts to the right by `count` bits, to the left when negative: 16-bit and 32-bit elements.
template <int count>
inline I shifted16(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return _mm256_srli_epi16(a, count);
    else
        return _mm256_slli_epi16(a, -count);
}
template <int count>
inline I shifted32(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return _mm256_srli_epi32(a, count);
    else
        return _mm256_slli_epi32(a, -count);
}
/// Byte `index` of each 32 bits.
template <int index>
inline I signedByte(I a) {
    return _mm256_srai_epi32(shifted32<8 * index - 24>(a), 24);
}
/// Sixteen bytes, and the entries that the bytes of `indices` name.
inline I loadTable(const int8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline I entriesAt(I table, I indices) {
    return _mm256_shuffle_epi8(table, indices);
}
/// Zero where an element is `value`.
inline I clearedWhere(I a, int32_t value) {
    return _mm256_andnot_si256(_mm256_cmpeq_epi32(a, _mm256_set1_epi32(value)), a);
}
/// Sixteen floats, and the entries that the low four bits of each element name.
struct FloatTable {
    V low, high;
};
inline FloatTable loadFloatTable(const float* p) {
    return {load(p), load(p + 8)};
}
inline V entriesAt(const FloatTable& table, I indices) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, indices),
                            _mm256_permutevar8x32_ps(table.high, indices),
                            asFloat(_mm256_slli_epi32(indices, 28)));
}

/// A block of 32 columns: register d holds columns 4d…4d+3 of a row in each lane.
struct TileBlock {
    I words[8];
};
struct Halves {
    I first, second;
};
/// What dot() has a kernel for: codes of at least so many bits.
constexpr int dotBits(int bits) {
    return bits < 4 ? 4 : bits;
}
/// Σ codes · activations of 32 columns added to `first`, or of 16 each to both. Pairs of unsigned
/// codes fit 16 bits, as many as kPairs of them. 8-bit codes: the sign goes to the activation, so
/// that a pair is at most 2 · 128 · 127.
template <int bits, bool halves>
inline Halves dot(const TileBlock& block, const int8_t* x, I first, I second) {
    constexpr int kPairs = 32767 / (2 * 127 * ((1 << (bits == 8 ? 7 : bits)) - 1)) / 2 * 2;
    static_assert(bits == 8 || kPairs >= 2);
    int32_t words[8];
    std::memcpy(words, x, sizeof words);
    const I ones = _mm256_set1_epi16(1);
    I sums[2] = {first, second};
    I pairs = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int d = 0; d < 8; ++d) {
        const I w = block.words[d], values = _mm256_set1_epi32(words[d]);
        if constexpr (bits == 8)
            pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(values, w));
        else
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w, values));
        if (bits == 8 || (d + 1) % kPairs == 0 || d == 7 || (halves && d == 3)) {
            I& sum = sums[halves ? d / 4 : 0];
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            pairs = _mm256_setzero_si256();
        }
    }
    return {sums[0], sums[1]};
}

bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

constexpr const char* kTilePath = "avx2, tiles";
constexpr const char* kFloatTilePath = "avx2, tiles";
constexpr const char* kRowPath = "avx2, rows";

} // namespace
} // namespace nibble

#include "core/runtime/cpu/choose.inl"

#pragma GCC pop_options

namespace nibble {
const CpuKernels kAvx2Kernels{"avx2",   "AVX2", supported, norm,  gate,
                              quantize, attend, spin,      choose};
} // namespace nibble
#endif
