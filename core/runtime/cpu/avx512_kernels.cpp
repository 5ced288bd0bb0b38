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
inline V loadInt8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
/// Sixteen bytes' low (part 0) or high (part 1) halves.
inline V loadNibbles(const uint8_t* p, int part) {
    __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if (part == 1)
        bytes = _mm_srli_epi16(bytes, 4);
    bytes = _mm_and_si128(bytes, _mm_set1_epi8(15));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
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

/// A block of 32 columns of a tile's rows: register d holds columns 4d…4d+3 of a row in each lane.
struct TileBlock {
    I words[8];
};
template <int bits>
inline TileBlock loadBlock(const uint32_t* words) {
    TileBlock block;
    if constexpr (bits == 8) {
#pragma GCC unroll 8
        for (int d = 0; d < 8; ++d)
            block.words[d] =
                _mm512_xor_si512(_mm512_loadu_si512(words + d * 16), _mm512_set1_epi8(-128));
    } else {
        const I mask = _mm512_set1_epi8(15);
#pragma GCC unroll 8
        for (int d = 0; d < 4; ++d) {
            const I packed = _mm512_loadu_si512(words + d * 16);
            block.words[d] = _mm512_and_si512(packed, mask);
            block.words[d + 4] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
        }
    }
    return block;
}
template <int bits>
inline I dot(const TileBlock& block, const int8_t* x, I start) {
    int32_t words[8];
    std::memcpy(words, x, sizeof words);
    I even = start, odd = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int d = 0; d < 8; d += 2) {
        even = _mm512_dpbusd_epi32(even, block.words[d], _mm512_set1_epi32(words[d]));
        odd = _mm512_dpbusd_epi32(odd, block.words[d + 1], _mm512_set1_epi32(words[d + 1]));
    }
    return _mm512_add_epi32(even, odd);
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("f16c");
}

constexpr const char* kTilePath = "avx512-vnni, tiles";
constexpr const char* kRowPath = "avx512, rows";

} // namespace
} // namespace nibble

#include "core/runtime/cpu/lanes.inl"
// What follows is written with it.
#include "core/runtime/cpu/attend.inl"

#pragma GCC pop_options

namespace nibble {
const CpuKernels kAvx512Kernels{"avx512", "AVX-512 VNNI", supported, norm,
                                gate,     quantize,       attend,    choose};
} // namespace nibble
#endif
