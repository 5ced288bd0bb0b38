// Lanes of AArch64's 128-bit registers, which all such processors have. The including file says
// whether the dot-product instruction may be used (kHasDot).

namespace nibble {
namespace {

using V = float32x4_t;
using I = int32x4_t;
constexpr int kLanes = 4;
constexpr int kTileRows = 8; ///< input rows of one pass over a tile: what registers hold
constexpr int kCodeBias8 = 0;

inline V load(const float* p) {
    return vld1q_f32(p);
}
inline void store(float* p, V v) {
    vst1q_f32(p, v);
}
inline V set1(float x) {
    return vdupq_n_f32(x);
}
inline V zero() {
    return vdupq_n_f32(0);
}
inline V add(V a, V b) {
    return vaddq_f32(a, b);
}
inline V sub(V a, V b) {
    return vsubq_f32(a, b);
}
inline V mul(V a, V b) {
    return vmulq_f32(a, b);
}
inline V div(V a, V b) {
    return vdivq_f32(a, b);
}
inline V fma(V a, V b, V c) {
    return vfmaq_f32(c, a, b);
}
/// The second operand where one is NaN.
inline V least(V a, V b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
inline V most(V a, V b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline V magnitude(V a) {
    return vabsq_f32(a);
}
inline V nearest(V a) {
    return vrndnq_f32(a);
}
inline V truncated(V a) {
    return vrndq_f32(a);
}
inline V withSignOf(V a, V sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, a);
}
inline float sumOf(V a) {
    return vaddvq_f32(a);
}
inline float mostOf(V a) {
    return vmaxvq_f32(a);
}
inline V power2(V whole) {
    return vreinterpretq_f32_s32(
        vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(whole), vdupq_n_s32(127)), 23));
}
inline V loadHalf(const uint16_t* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
inline V loadBfloat(const uint16_t* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
/// Stores whole numbers as bytes and gives their sum.
inline int32_t storeCodes(int8_t* p, V whole) {
    const I codes = vcvtnq_s32_f32(whole);
    const int16x4_t halves = vmovn_s32(codes);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    std::memcpy(p, &bytes, kLanes);
    return vaddvq_s32(codes);
}
inline I set1i(int32_t x) {
    return vdupq_n_s32(x);
}
inline I subi(I a, I b) {
    return vsubq_s32(a, b);
}
inline I muli(I a, I b) {
    return vmulq_s32(a, b);
}
inline V toFloat(I a) {
    return vcvtq_f32_s32(a);
}
inline I loadBytesAsInts(const uint8_t* p) {
    uint32_t bytes;
    std::memcpy(&bytes, p, kLanes);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))));
}

inline V asFloat(I a) {
    return vreinterpretq_f32_s32(a);
}
inline I addi(I a, I b) {
    return vaddq_s32(a, b);
}
inline I andi(I a, I b) {
    return vandq_s32(a, b);
}
inline I ori(I a, I b) {
    return vorrq_s32(a, b);
}
inline I xori(I a, I b) {
    return veorq_s32(a, b);
}
inline I setBytes(int x) {
    return vreinterpretq_s32_s8(vdupq_n_s8(static_cast<int8_t>(x)));
}
inline I loadWords(const uint32_t* p) {
    return vreinterpretq_s32_u32(vld1q_u32(p));
}
inline void storeWords(uint32_t* p, I words) {
    vst1q_u32(p, vreinterpretq_u32_s32(words));
}
/// Shifts to the right by `count` bits, to the left when negative: 16-bit and 32-bit elements.
template <int count>
inline I shifted16(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(a), count));
    else
        return vreinterpretq_s32_u16(vshlq_n_u16(vreinterpretq_u16_s32(a), -count));
}
template <int count>
inline I shifted32(I a) {
    if constexpr (count == 0)
        return a;
    else if constexpr (count > 0)
        return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), count));
    else
        return vshlq_n_s32(a, -count);
}
/// Byte `index` of each 32 bits.
template <int index>
inline I signedByte(I a) {
    return vshrq_n_s32(shifted32<8 * index - 24>(a), 24);
}
/// Sixteen bytes, and the entries that the bytes of `indices` name.
inline I loadTable(const int8_t* p) {
    return vreinterpretq_s32_s8(vld1q_s8(p));
}
inline I entriesAt(I table, I indices) {
    return vreinterpretq_s32_s8(
        vqtbl1q_s8(vreinterpretq_s8_s32(table), vreinterpretq_u8_s32(indices)));
}
/// Zero where an element is `value`.
inline I clearedWhere(I a, int32_t value) {
    return vbicq_s32(a, vreinterpretq_s32_u32(vceqq_s32(a, vdupq_n_s32(value))));
}
/// Sixteen floats, and the entries that the low four bits of each element name.
struct FloatTable {
    uint8x16x4_t bytes;
};
inline FloatTable loadFloatTable(const float* p) {
    FloatTable table;
    for (int i = 0; i < 4; ++i)
        table.bytes.val[i] = vreinterpretq_u8_f32(load(p + i * 4));
    return table;
}
inline V entriesAt(const FloatTable& table, I indices) {
    // Byte b of element e comes from byte 4 · index + b of the table.
    const I first = vmulq_s32(vandq_s32(indices, vdupq_n_s32(15)), vdupq_n_s32(0x04040404));
    const uint8x16_t at = vreinterpretq_u8_s32(vaddq_s32(first, vdupq_n_s32(0x03020100)));
    return vreinterpretq_f32_u8(vqtbl4q_u8(table.bytes, at));
}

/// A block of 32 columns: register d holds columns 4d…4d+3 of a row in each lane.
struct TileBlock {
    I words[8];
};
struct Halves {
    I first, second;
};
/// What dot() has a kernel for: signed bytes, which codes of fewer bits are as well.
constexpr int dotBits(int bits) {
    return bits == 8 ? 8 : 4;
}
inline I addDot(I sum, I codes, I values) {
    const int8x16_t a = vreinterpretq_s8_s32(codes), b = vreinterpretq_s8_s32(values);
    if constexpr (kHasDot) {
        return dotOf(sum, a, b);
    } else {
        const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        const int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
        return vaddq_s32(sum, vpaddq_s32(low, high));
    }
}
/// Σ codes · activations of 32 columns added to `first`, or of 16 each to both.
template <int, bool halves>
inline Halves dot(const TileBlock& block, const int8_t* x, I first, I second) {
    int32_t words[8];
    std::memcpy(words, x, sizeof words);
#pragma GCC unroll 4
    for (int d = 0; d < 4; ++d) {
        first = addDot(first, block.words[d], vdupq_n_s32(words[d]));
        second = addDot(second, block.words[d + 4], vdupq_n_s32(words[d + 4]));
    }
    return {halves ? first : vaddq_s32(first, second), second};
}

} // namespace
} // namespace nibble
