#if defined(__x86_64__)
#include "core/base/half.h"
#include "core/runtime/cpu/kernels.h"
#include "core/tensor/planes.h"

#include <cstring>
// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace nibble {
namespace {

using V = __m512;
using I = __m512i;
constexpr int kLanes = 16;
constexpr int kTileRows = 8; ///< input rows of one pass over a tile: what registers hold
/// Added to 8-bit codes, because the dot instruction wants unsigned ones.
constexpr int kCodeBias8 = 128;

inline V load(const float* p) {
    return _mm512_loadu_ps(p);
}
inline void store(float* p, V v) {
    _mm512_storeu_ps(p, v);
}
inline V set1(float x) {
    return _mm512_set1_ps(x);
}
inline V zero() {
    return _mm512_setzero_ps();
}
inline V add(V a, V b) {
    return _mm512_add_ps(a, b);
}
inline V sub(V a, V b) {
    return _mm512_sub_ps(a, b);
}
inline V mul(V a, V b) {
    return _mm512_mul_ps(a, b);
}
inline V div(V a, V b) {
    return _mm512_div_ps(a, b);
}
inline V fma(V a, V b, V c) {
    return _mm512_fmadd_ps(a, b, c);
}
/// The second operand where one is NaN.
inline V least(V a, V b) {
    return _mm512_min_ps(a, b);
}
inline V most(V a, V b) {
    return _mm512_max_ps(a, b);
}
inline V magnitude(V a) {
    return _mm512_abs_ps(a);
}
inline V nearest(V a) {
    return _mm512_roundscale_ps(a, 0);
}
inline V truncated(V a) {
    return _mm512_roundscale_ps(a, 3);
}
inline V withSignOf(V a, V sign) {
    const V mask = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(a, _mm512_and_ps(mask, sign));
}
inline float sumOf(V a) {
    return _mm512_reduce_add_ps(a);
}
inline float mostOf(V a) {
    return _mm512_reduce_max_ps(a);
}
inline V power2(V whole) {
    const I e = _mm512_add_epi32(_mm512_cvtps_epi32(whole), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
inline V loadHalf(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V loadBfloat(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
/// Stores whole numbers as bytes and gives their sum.
inline int32_t storeCodes(int8_t* p, V whole) {
    const I codes = _mm512_cvtps_epi32(whole);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(codes));
    return _mm512_reduce_add_epi32(codes);
}
inline I set1i(int32_t x) {
    return _mm512_set1_epi32(x);
}
inline I subi(I a, I b) {
    return _mm512_sub_epi32(a, b);
}
inline I muli(I a, I b) {
    return _mm512_mullo_epi32(a, b);
}
inline V toFloat(I a) {
    return _mm512_cvtepi32_ps(a);
}
inline I loadBytesAsInts(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline V asFloat(I a) {
    return _mm512_castsi512_ps(a);
}
inline I addi(I a, I b) {
    return _mm512_add_epi32(a, b);
}
inline I andi(I a, I b) {
    return _mm512_and_si512(a, b);
}
inline I ori(I a, I b) {
    return _mm512_or_si512(a, b);
}
inline I xori(I a, I b) {
    return _mm512_xor_si512(a, b);
}
inline I setBytes(int x) {
    return _mm512_set1_epi8(static_cast<char>(x));
}
inline I loadWords(const uint32_t* p) {
    return _mm512_loadu_si512(p);
}
inline void storeWords(uint32_t* p, I words) {
    _mm512_storeu_si512(p, words);
}
/// Shifts to the right by `count` bits, to the left when negative: 16-bit and 32-bit elements.
template <int count>
inline I shifted16(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return _mm512_srli_epi16(a, count);
    else
        return _mm512_slli_epi16(a, -count);
}
template <int count>
inline I shifted32(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return _mm512_srli_epi32(a, count);
    else
        return _mm512_slli_epi32(a, -count);
}
/// Byte `index` of each 32 bits.
template <int index>
inline I signedByte(I a) {
    return _mm512_srai_epi32(shifted32<8 * index - 24>(a), 24);
}
/// Sixteen bytes, and the entries that the bytes of `indices` name.
inline I loadTable(const int8_t* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline I entriesAt(I table, I indices) {
    return _mm512_shuffle_epi8(table, indices);
}
/// Zero where an element is `value`.
inline I clearedWhere(I a, int32_t value) {
    return _mm512_maskz_mov_epi32(_mm512_cmpneq_epi32_mask(a, _mm512_set1_epi32(value)), a);
}
/// Sixteen floats, and the entries that the low four bits of each element name.
using FloatTable = V;
inline FloatTable loadFloatTable(const float* p) {
    return load(p);
}
inline V entriesAt(const FloatTable& table, I indices) {
    return _mm512_permutexvar_ps(indices, table);
}

/// A block of 32 columns: register d holds columns 4d…4d+3 of a row in each lane.
struct TileBlock {
    I words[8];
};
struct Halves {
    I first, second;
};
/// What dot() has a kernel for: codes that fit unsigned bytes as they are, or with kCodeBias8.
constexpr int dotBits(int bits) {
    return bits == 8 ? 8 : 4;
}
/// Σ codes · activations of 32 columns added to `first`, or of 16 each to both.
template <int, bool halves>
inline Halves dot(const TileBlock& block, const int8_t* x, I first, I second) {
    int32_t words[8];
    std::memcpy(words, x, sizeof words);
#pragma GCC unroll 4
    for (int d = 0; d < 4; ++d) {
        first = _mm512_dpbusd_epi32(first, block.words[d], _mm512_set1_epi32(words[d]));
        second = _mm512_dpbusd_epi32(second, block.words[d + 4], _mm512_set1_epi32(words[d + 4]));
    }
    return {halves ? first : _mm512_add_epi32(first, second), second};
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("f16c");
}

constexpr const char* kTilePath = "avx512-vnni, tiles";
constexpr const char* kFloatTilePath = "avx512, tiles";
constexpr const char* kRowPath = "avx512, rows";

} // namespace
} // namespace nibble

#include "core/runtime/cpu/choose.inl"

#pragma GCC pop_options

namespace nibble {
const CpuKernels kAvx512Kernels{"avx512", "AVX-512 VNNI", supported, norm,  gate,
                                quantize, attend,         spin,      choose};
} // namespace nibble
#endif
