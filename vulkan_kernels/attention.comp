#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface.h"

// softmax(scale · q · K) V of one head of one row, online over tiles of WORKGROUP positions, so that any
// length needs the same shared memory. Scores: an invocation a position. Sums: an invocation a pair
// of values, or a slice of the positions for a pair where heads are short.
layout(local_size_x_id = ID_WORKGROUP) in;

layout(push_constant) uniform Arguments { AttentionArguments a; };
layout(constant_id = ID_WORKGROUP) const uint WORKGROUP = 64u;
layout(constant_id = ID_PAIRS_EACH) const uint PAIRS_EACH = 1u;
layout(constant_id = ID_HEAD_SIZE) const uint HEAD_SIZE = 64u;
layout(constant_id = ID_KV) const uint KEYS = KV_F16;
layout(constant_id = ID_VALUES) const uint VALUES = KV_F16;
layout(constant_id = ID_TAIL) const uint TAIL = 0u;
layout(constant_id = ID_SINKS) const uint SINKS = 0u;

const uint kPairs = HEAD_SIZE / 2u;
const uint kLanes = kPairs < WORKGROUP ? kPairs : WORKGROUP;
const uint kSlices = WORKGROUP / kLanes;

layout(std430, binding = 0) readonly buffer Query { float query[]; };
layout(std430, binding = 1) readonly buffer Keys1 { uint keys1[]; };
layout(std430, binding = 1) readonly buffer Keys4 { uvec4 keys4[]; };
layout(std430, binding = 2) readonly buffer Values1 { uint values1[]; };
layout(std430, binding = 3) coherent buffer Result { float result[]; };
layout(std430, binding = 4) readonly buffer Sinks { float sinks[]; };
layout(std430, binding = 6) readonly buffer Step { uint step_[]; };

shared float sQuery[HEAD_SIZE];
shared float sScore[WORKGROUP];
shared uint sAt[WORKGROUP];
shared vec2 sSum[WORKGROUP];

#include "tail.glsl"

// Words of a page of one head, and where its scales start.
uint pageWords(uint format) {
    uint codes = HEAD_SIZE * PAGE_TOKENS / (format == KV_INT8 ? 4u : 8u);
    return codes + PAGE_TOKENS * (HEAD_SIZE / KV_BLOCK) / 2u;
}

uint scalesAt(uint format, uint page) {
    return page * pageWords(format) + HEAD_SIZE * PAGE_TOKENS / (format == KV_INT8 ? 4u : 8u);
}

vec2 codePair(uint format, uint word, uint value) {
    if (format == KV_INT8) {
        int shift = int(value % 4u) * 8;
        return vec2(bitfieldExtract(int(word), shift, 8), bitfieldExtract(int(word), shift + 8, 8));
    }
    uint codes = word >> (value % 8u * 4u);
    return vec2(int(codes & 15u) - 8, int((codes >> 4) & 15u) - 8);
}

// The two values from d on of record `at`, the token at % 32 of the head's page at / 32.
vec2 keyPair(uint at, uint d) {
    uint value = at * HEAD_SIZE + d;
    if (KEYS == KV_F32)
        return uintBitsToFloat(uvec2(keys1[value], keys1[value + 1u]));
    if (KEYS == KV_F16)
        return unpackHalf2x16(keys1[value / 2u]);
    uint page = at / PAGE_TOKENS, inPage = at % PAGE_TOKENS * HEAD_SIZE + d;
    uint word = keys1[page * pageWords(KEYS) + inPage / (KEYS == KV_INT8 ? 4u : 8u)];
    uint scale = inPage / KV_BLOCK;
    vec2 scales = unpackHalf2x16(keys1[scalesAt(KEYS, page) + scale / 2u]);
    return codePair(KEYS, word, inPage) * scales[scale % 2u];
}

vec2 valuePair(uint at, uint d) {
    uint value = at * HEAD_SIZE + d;
    if (VALUES == KV_F32)
        return uintBitsToFloat(uvec2(values1[value], values1[value + 1u]));
    if (VALUES == KV_F16)
        return unpackHalf2x16(values1[value / 2u]);
    uint page = at / PAGE_TOKENS, inPage = at % PAGE_TOKENS * HEAD_SIZE + d;
    uint word = values1[page * pageWords(VALUES) + inPage / (VALUES == KV_INT8 ? 4u : 8u)];
    uint scale = inPage / KV_BLOCK;
    vec2 scales = unpackHalf2x16(values1[scalesAt(VALUES, page) + scale / 2u]);
    return codePair(VALUES, word, inPage) * scales[scale % 2u];
}

vec2 dotHalves(uint word, uint d) {
    return unpackHalf2x16(word) * vec2(sQuery[d], sQuery[d + 1u]);
}

float score(uint at) {
    vec2 dots = vec2(0.0);
    if (KEYS == KV_F16 && HEAD_SIZE % 8u == 0u) {
        for (uint d = 0u; d < HEAD_SIZE; d += 8u) {
            uvec4 words = keys4[(at * HEAD_SIZE + d) / 8u];
            dots += dotHalves(words.x, d) + dotHalves(words.y, d + 2u) +
                    dotHalves(words.z, d + 4u) + dotHalves(words.w, d + 6u);
        }
    } else {
        for (uint d = 0u; d < HEAD_SIZE; d += 2u)
            dots += keyPair(at, d) * vec2(sQuery[d], sQuery[d + 1u]);
    }
    return dots.x + dots.y;
}

const uint kTogether = 4u; // values on their way at once

void main() {
    uint lane = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
    uint kvHead = head / (a.heads / a.kvHeads);
    bool active_ = row < step_[STEP_ROW_COUNT];
    uint count = active_ ? step_[STEP_POSITIONS(a.stepRows) + row] + 1u : 0u;
    uint pages = a.listsAt + step_[STEP_PAGES(a.stepRows) + row];
    for (uint d = lane; d < HEAD_SIZE; d += WORKGROUP)
        sQuery[d] = query[row * a.queryStride + head * HEAD_SIZE + d] * a.scale;
    uint pair = lane % kLanes, slice = lane / kLanes;
    vec2 sums[PAIRS_EACH];
    for (uint i = 0u; i < PAIRS_EACH; ++i)
        sums[i] = vec2(0.0);
    float most = SINKS != 0u ? sinks[head] : -3.0e38, total = SINKS != 0u ? 1.0 : 0.0;
    uint begin = a.window != 0u && count > a.window ? count - a.window : 0u;
    for (uint first = begin; first < count; first += WORKGROUP) {
        uint tile = min(count - first, WORKGROUP);
        barrier();
        float score_ = -3.0e38;
        if (lane < tile) {
            uint t = first + lane;
            uint page = step_[pages + t / PAGE_TOKENS];
            uint at = (page * a.kvHeads + kvHead) * PAGE_TOKENS + t % PAGE_TOKENS;
            sAt[lane] = at;
            score_ = score(at);
            if (a.cap > 0.0)
                score_ = a.cap * hyperbolicTangent(score_ / a.cap);
        }
        float before = most;
        most = max(most, reduceMax(lane, score_));
        float shrink = exp(before - most);
        float p = lane < tile ? exp(score_ - most) : 0.0;
        sScore[lane] = p;
        total = total * shrink + reduceSum(lane, p);
        for (uint i = 0u; i < PAIRS_EACH; ++i)
            sums[i] *= shrink;
        if (slice < kSlices)
            for (uint t = slice; t < tile; t += kSlices * kTogether)
                for (uint i = 0u; i < PAIRS_EACH; ++i) {
                    if (pair + i * kLanes >= kPairs)
                        continue;
                    vec2 v[kTogether];
                    [[unroll]] for (uint k = 0u; k < kTogether; ++k)
                        v[k] = valuePair(sAt[min(t + k * kSlices, tile - 1u)],
                                         (pair + i * kLanes) * 2u);
                    [[unroll]] for (uint k = 0u; k < kTogether; ++k)
                        if (t + k * kSlices < tile)
                            sums[i] += sScore[t + k * kSlices] * v[k];
                }
    }
    for (uint i = 0u; i < PAIRS_EACH; ++i) {
        barrier();
        sSum[lane] = sums[i];
        barrier();
        if (slice == 0u && pair + i * kLanes < kPairs) {
            vec2 v = sums[i];
            for (uint k = 1u; k < kSlices; ++k)
                v += sSum[k * kLanes + pair];
            uint at = row * a.outStride + head * HEAD_SIZE + (pair + i * kLanes) * 2u;
            result[at] = active_ ? v.x / total : 0.0;
            result[at + 1u] = active_ ? v.y / total : 0.0;
        }
    }
    if (TAIL != 0u)
        prepareWhenLast(a.tail, lane, a.workgroups, a.rows);
}
