#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"
#include "numbers.glsl"

// Rows of keys or values as codes of 8 or 4 bits in their pages; an invocation a block of 32.
// s = |largest| / 127 or 7, codes to the nearest integer, the scale kept as float16.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { StoreKvArguments a; };
layout(constant_id = ID_KV) const uint KV = KV_INT8;

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 1) coherent buffer Cache { uint cache[]; };
layout(std430, binding = 6) readonly buffer Step { uint step_[]; };

const uint kTop = KV == KV_INT8 ? 127u : 7u;
const uint kCodesPerWord = KV == KV_INT8 ? 4u : 8u;

// Half a word; its other half is another block's, perhaps stored at the same time.
void storeScale(uint at, uint i, uint half_) {
    uint shift = i % 2u * 16u;
    atomicAnd(cache[at + i / 2u], ~(0xffffu << shift));
    atomicOr(cache[at + i / 2u], half_ << shift);
}

void main() {
    uint row = gl_WorkGroupID.y, blocks = a.headSize / KV_BLOCK;
    uint block = gl_GlobalInvocationID.x;
    if (row >= step_[STEP_ROW_COUNT] || block >= a.heads * blocks)
        return;
    uint head = block / blocks, inHead = block % blocks;
    uint position = step_[STEP_POSITIONS(a.stepRows) + row];
    uint lists = a.listsAt + step_[STEP_PAGES(a.stepRows) + row];
    uint page = step_[lists + position / PAGE_TOKENS] * a.heads + head;
    uint codes = a.headSize * PAGE_TOKENS / kCodesPerWord;
    uint start = page * (codes + PAGE_TOKENS * blocks / 2u);
    uint token = position % PAGE_TOKENS;
    uint from = (row * a.heads + head) * a.headSize + inHead * KV_BLOCK;
    float most = 0.0;
    bool broken = false;
    for (uint i = 0u; i < KV_BLOCK; ++i) {
        broken = broken || isBroken(source[from + i]);
        most = max(most, abs(source[from + i]));
    }
    float scale = divide(most, float(kTop));
    float inverse = scale > 0.0 && !broken ? divide(1.0, scale) : 0.0;
    uint at = start + (token * a.headSize + inHead * KV_BLOCK) / kCodesPerWord;
    for (uint w = 0u; w < KV_BLOCK / kCodesPerWord; ++w) {
        uint word = 0u;
        for (uint i = 0u; i < kCodesPerWord; ++i) {
            int code = broken ? 0 : roundAway(source[from + w * kCodesPerWord + i] * inverse);
            word |= KV == KV_INT8 ? (uint(code) & 255u) << (8u * i)
                                  : uint(code + 8) << (4u * i);
        }
        cache[at + w] = word;
    }
    storeScale(start + codes, token * blocks + inHead,
               broken ? 0x7e00u : roundToHalf(scale));
}
