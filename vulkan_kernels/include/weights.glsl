// Weight planes as values: every format through specialization constants. Binding 0.
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

layout(constant_id = ID_KIND) const uint KIND = 0u;
layout(constant_id = ID_LOW) const uint LOW = 4u;
layout(constant_id = ID_HIGH) const uint HIGH = 0u;
layout(constant_id = ID_ZERO) const int ZERO = 0;
layout(constant_id = ID_GROUP) const uint GROUP = 32u;
layout(constant_id = ID_SCALE) const uint SCALE = SCALE_F16;
layout(constant_id = ID_SCALE_BITS) const uint SCALE_BITS = 16u;
layout(constant_id = ID_SCALE_ZERO) const int SCALE_ZERO = 0;
layout(constant_id = ID_OFFSET) const uint OFFSET = OFFSET_NONE;
layout(constant_id = ID_OFFSET_BITS) const uint OFFSET_BITS = 16u;
layout(constant_id = ID_SUPER) const uint SUPER = 256u;
layout(constant_id = ID_TABLE0) const uint TABLE0 = 0u;
layout(constant_id = ID_TABLE1) const uint TABLE1 = 0u;
layout(constant_id = ID_TABLE2) const uint TABLE2 = 0u;
layout(constant_id = ID_TABLE3) const uint TABLE3 = 0u;
layout(constant_id = ID_UNIT) const float UNIT = 1.0;
// The table's values over UNIT, which integer kernels use rounded.
layout(constant_id = ID_EXACT + 0) const float EXACT0 = 0.0;
layout(constant_id = ID_EXACT + 1) const float EXACT1 = 0.0;
layout(constant_id = ID_EXACT + 2) const float EXACT2 = 0.0;
layout(constant_id = ID_EXACT + 3) const float EXACT3 = 0.0;
layout(constant_id = ID_EXACT + 4) const float EXACT4 = 0.0;
layout(constant_id = ID_EXACT + 5) const float EXACT5 = 0.0;
layout(constant_id = ID_EXACT + 6) const float EXACT6 = 0.0;
layout(constant_id = ID_EXACT + 7) const float EXACT7 = 0.0;
layout(constant_id = ID_EXACT + 8) const float EXACT8 = 0.0;
layout(constant_id = ID_EXACT + 9) const float EXACT9 = 0.0;
layout(constant_id = ID_EXACT + 10) const float EXACT10 = 0.0;
layout(constant_id = ID_EXACT + 11) const float EXACT11 = 0.0;
layout(constant_id = ID_EXACT + 12) const float EXACT12 = 0.0;
layout(constant_id = ID_EXACT + 13) const float EXACT13 = 0.0;
layout(constant_id = ID_EXACT + 14) const float EXACT14 = 0.0;
layout(constant_id = ID_EXACT + 15) const float EXACT15 = 0.0;

layout(std430, binding = 0) readonly buffer Weights1 { uint w1[]; };
layout(std430, binding = 0) readonly buffer Weights2 { uvec2 w2[]; };
layout(std430, binding = 0) readonly buffer Weights4 { uvec4 w4[]; };
#ifdef BROADCAST // devices that read lane by lane do it in half the time
layout(std430, binding = 0) readonly buffer Weights8 { u64vec2 w8[]; };
uvec4 fourWords(uint i) {
    u64vec2 v = w8[i];
    return uvec4(unpack32(v.x), unpack32(v.y));
}
#else
uvec4 fourWords(uint i) { return w4[i]; }
#endif

const uvec4 kTable = uvec4(TABLE0, TABLE1, TABLE2, TABLE3);
const vec4 kExact0 = vec4(EXACT0, EXACT1, EXACT2, EXACT3);
const vec4 kExact1 = vec4(EXACT4, EXACT5, EXACT6, EXACT7);
const vec4 kExact2 = vec4(EXACT8, EXACT9, EXACT10, EXACT11);
const vec4 kExact3 = vec4(EXACT12, EXACT13, EXACT14, EXACT15);
const bool kSignedCodes = KIND == KIND_TABLE || LOW == 8u;
const bool kHasZero = ZERO != 0 || OFFSET == OFFSET_ZERO;
const bool kHasOffset = OFFSET == OFFSET_VALUE || OFFSET == OFFSET_CODE;
const uint kBlocksPerGroup = GROUP < 32u ? 1u : GROUP / 32u;
const uint kBlocksPerSuper = SUPER < 32u ? 1u : SUPER / 32u;

// Codes 0…15 and 16…31 of a record, one a byte.
void planeCodes(uint bits, uint at, uint record, out uvec4 c0, out uvec4 c1) {
    if (bits == 8u) {
        c0 = fourWords(at / 4u + record * 2u);
        c1 = fourWords(at / 4u + record * 2u + 1u);
        return;
    }
    uvec4 u = uvec4(0u);
    if (bits == 4u)
        u = fourWords(at / 4u + record);
    if (bits == 2u) {
        uvec2 g = w2[at / 2u + record];
        u = uvec4(g, g >> 2);
    }
    if (bits == 1u)
        u = uvec4(w1[at + record]) >> uvec4(0u, 1u, 2u, 3u);
    uint mask = ((1u << bits) - 1u) * 0x01010101u;
    c0 = u & mask;
    c1 = (u >> 4) & mask;
}

uint tableEntry(uint code) {
    return (kTable[(code >> 2) & 3u] >> ((code & 3u) * 8u)) & 255u;
}

uint tableWord(uint codes) {
    return tableEntry(codes & 15u) | tableEntry((codes >> 8) & 15u) << 8 |
           tableEntry((codes >> 16) & 15u) << 16 | tableEntry(codes >> 24 & 15u) << 24;
}

void storedCodes(Planes p, uint record, out uvec4 c0, out uvec4 c1) {
    planeCodes(LOW, p.lowAt, record, c0, c1);
    if (HIGH != 0u) {
        uvec4 h0, h1;
        planeCodes(HIGH, p.highAt, record, h0, h1);
        c0 |= h0 << LOW;
        c1 |= h1 << LOW;
    }
}

void recordCodes(Planes p, uint record, out uvec4 c0, out uvec4 c1) {
    storedCodes(p, record, c0, c1);
    if (KIND == KIND_TABLE) {
        c0 = uvec4(tableWord(c0.x), tableWord(c0.y), tableWord(c0.z), tableWord(c0.w));
        c1 = uvec4(tableWord(c1.x), tableWord(c1.y), tableWord(c1.z), tableWord(c1.w));
    }
}

// A field of `bits` (4, 8, 16 or 32) bits.
uint field(uint at, uint i, uint bits) {
    if (bits == 32u)
        return w1[at + i];
    uint each = 32u / bits;
    return (w1[at + i / each] >> (bits * (i % each))) & ((1u << (bits & 31u)) - 1u);
}

float halfField(uint at, uint i) {
    return unpackHalf2x16(field(at, i, 16u)).x;
}

float powerOfTwoScale(uint e) { // 2^(e − 128): UNIT carries the other factor of two
    return e < 2u ? uintBitsToFloat(0x00200000u << e) : uintBitsToFloat((e - 1u) << 23);
}

float smallFloatScale(uint bits) {
    uint e = (bits >> 3) & 15u;
    float mantissa = float(bits & 7u);
    if ((bits & 127u) == 127u)
        return 0.0;
    return e == 0u ? mantissa * 0.001953125 : (8.0 + mantissa) * uintBitsToFloat((e + 117u) << 23);
}

float storedScale(Planes p, uint i) {
    if (SCALE == SCALE_F32)
        return uintBitsToFloat(w1[p.scaleAt + i]);
    if (SCALE == SCALE_F16)
        return halfField(p.scaleAt, i);
    if (SCALE == SCALE_BF16)
        return uintBitsToFloat(field(p.scaleAt, i, 16u) << 16);
    if (SCALE == SCALE_E8M0)
        return powerOfTwoScale(field(p.scaleAt, i, 8u));
    if (SCALE == SCALE_E4M3)
        return smallFloatScale(field(p.scaleAt, i, 8u));
    return 1.0;
}

int scaleCode(Planes p, uint i) {
    uint code = field(p.scaleAt, i, SCALE_BITS);
    return (SCALE_BITS == 8u && SCALE_ZERO == 0 ? bitfieldExtract(int(code), 0, 8) : int(code)) -
           SCALE_ZERO;
}

// The numbers that a row's block of 32 needs, for its two halves where groups have 16 values.
struct BlockScale {
    float f0, f1;  // factor of the code sums
    int q0, q1;    // integer factor
    int zero, zero1;
    float o0, o1;  // factor of the activation sums
};

BlockScale blockScale(Planes p, uint tile, uint row, uint block) {
    BlockScale s;
    s.f0 = 1.0;
    s.q0 = 1;
    s.q1 = 1;
    s.zero = ZERO;
    s.o0 = 0.0;
    s.o1 = 0.0;
    uint group = GROUP == 0u ? 0u : GROUP == 16u ? block * 2u : block / kBlocksPerGroup;
    uint at = (tile * p.groups + group) * TILE_ROWS + row;
    uint super = (tile * p.supers + block / kBlocksPerSuper) * TILE_ROWS + row;
    bool halves = GROUP == 16u;
    if (SCALE == SCALE_CODE) {
        s.f0 = halfField(p.superScaleAt, super);
        s.q0 = scaleCode(p, at);
        s.q1 = halves ? scaleCode(p, at + TILE_ROWS) : s.q0;
        s.f1 = s.f0;
    } else {
        s.f0 = storedScale(p, at);
        s.f1 = halves ? storedScale(p, at + TILE_ROWS) : s.f0;
    }
    s.f0 *= UNIT;
    s.f1 *= UNIT;
    s.zero1 = ZERO;
    if (OFFSET == OFFSET_ZERO) {
        s.zero += int(field(p.offsetAt, at, OFFSET_BITS));
        s.zero1 = halves ? ZERO + int(field(p.offsetAt, at + TILE_ROWS, OFFSET_BITS)) : s.zero;
    }
    if (OFFSET == OFFSET_VALUE) {
        s.o0 = halfField(p.offsetAt, at);
        s.o1 = halves ? halfField(p.offsetAt, at + TILE_ROWS) : s.o0;
    }
    if (OFFSET == OFFSET_CODE) {
        float f = halfField(p.superOffsetAt, super);
        s.o0 = f * float(field(p.offsetAt, at, OFFSET_BITS));
        s.o1 = halves ? f * float(field(p.offsetAt, at + TILE_ROWS, OFFSET_BITS)) : s.o0;
    }
    return s;
}

vec4 bytesToFloats(uint word, int zero) {
    ivec4 v;
    if (kSignedCodes)
        v = ivec4(int(word << 24) >> 24, int(word << 16) >> 24, int(word << 8) >> 24, int(word) >> 24);
    else
        v = ivec4(word & 255u, (word >> 8) & 255u, (word >> 16) & 255u, word >> 24);
    return vec4(v - zero);
}

vec4 tableFloats(uint codes) {
    vec4 v;
    for (int i = 0; i < 4; ++i) {
        uint code = (codes >> (8 * i)) & 15u;
        vec4 four = code < 8u ? (code < 4u ? kExact0 : kExact1) : (code < 12u ? kExact2 : kExact3);
        v[i] = four[code & 3u];
    }
    return v;
}

// The weight of one column.
float weightAt(Planes p, uint tile, uint row, uint col) {
    BlockScale s = blockScale(p, tile, row, col / 32u);
    uvec4 c0, c1;
    storedCodes(p, (tile * p.blocks + col / 32u) * TILE_ROWS + row, c0, c1);
    bool second = col % 32u >= 16u;
    uint word = (second ? c1 : c0)[col % 16u / 4u] >> (col % 4u * 8u);
    float v;
    if (KIND == KIND_TABLE)
        v = tableFloats(word & 255u).x;
    else
        v = float((kSignedCodes ? int(word << 24) >> 24 : int(word & 255u)) -
                  (second ? s.zero1 : s.zero));
    v *= second ? s.f1 * float(s.q1) : s.f0 * float(s.q0);
    return kHasOffset ? v + (second ? s.o1 : s.o0) : v;
}

// The weight of outlier column number k.
float outlierWeight(Planes p, uint tile, uint row, uint k) {
    return halfField(p.outliersAt, (tile * p.columns + k) * TILE_ROWS + row);
}

vec4 halvesToFloats(uvec2 u) {
    return vec4(unpackHalf2x16(u.x), unpackHalf2x16(u.y));
}

vec4 bfloatsToFloats(uvec2 u) {
    return uintBitsToFloat(uvec4(u.x << 16, u.x & 0xffff0000u, u.y << 16, u.y & 0xffff0000u));
}

// Codes less their zero, or entries of the table, or the values themselves of a float format.
void recordFloats(Planes p, uint record, int zero, int zero1, out vec4 w[8]) {
    if (KIND == KIND_F32) {
        for (uint i = 0u; i < 8u; ++i)
            w[i] = uintBitsToFloat(w4[p.lowAt / 4u + record * 8u + i]);
    } else if (KIND == KIND_F16 || KIND == KIND_BF16) {
        for (uint i = 0u; i < 4u; ++i) {
            uvec4 u = w4[p.lowAt / 4u + record * 4u + i];
            w[2u * i] = KIND == KIND_F16 ? halvesToFloats(u.xy) : bfloatsToFloats(u.xy);
            w[2u * i + 1u] = KIND == KIND_F16 ? halvesToFloats(u.zw) : bfloatsToFloats(u.zw);
        }
    } else {
        uvec4 c0, c1;
        storedCodes(p, record, c0, c1);
        for (uint i = 0u; i < 4u; ++i) {
            w[i] = KIND == KIND_TABLE ? tableFloats(c0[i]) : bytesToFloats(c0[i], zero);
            w[i + 4u] = KIND == KIND_TABLE ? tableFloats(c1[i]) : bytesToFloats(c1[i], zero1);
        }
    }
}
