#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
#ifdef BROADCAST
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#endif
#include "weights.glsl"

// M activation rows times TILES · 16 rows of a matrix in any format. An invocation owns a matrix row
// of each tile and a slice of its blocks, in a row or every SLICES-th; the slices meet in shared memory, always in
// the same order, so that a result depends on the number of slices, but neither on M nor on TILES.
layout(local_size_x_id = ID_WORKGROUP) in;
layout(constant_id = ID_WORKGROUP) const uint WORKGROUP = 64u;

layout(push_constant) uniform Arguments { ProductArguments a; };
layout(constant_id = ID_M) const uint M = 1u;
layout(constant_id = ID_FLOAT) const uint FLOAT = 0u;
layout(constant_id = ID_TAIL) const uint TAIL = 0u;
layout(constant_id = ID_TILES) const uint TILES = 1u;
layout(constant_id = ID_SUMS) const uint SUMS = 1u;
layout(constant_id = ID_PARTIALS) const uint PARTIALS = 64u;
layout(constant_id = ID_AHEAD) const uint AHEAD = 1u;
layout(constant_id = ID_RECORDS) const uint RECORDS = 1u;
layout(constant_id = ID_SPREAD) const uint SPREAD = 0u;
layout(constant_id = ID_OUTLIERS) const uint OUTLIERS = 0u;
layout(constant_id = ID_EXPERTS) const uint EXPERTS = EXPERTS_NONE;
layout(constant_id = ID_EXPERTS_USED) const uint EXPERTS_USED = 1u;
const uint SLICES = WORKGROUP / TILE_ROWS;
const uint kStride = SPREAD != 0u ? SLICES : 1u; // from a slice's block to its next
const uint kSlicesAtOnce = 4u;

layout(std430, binding = 1) readonly buffer Codes { uvec4 codes[]; };
layout(std430, binding = 1) readonly buffer Floats { vec4 floats[]; };
layout(std430, binding = 2) readonly buffer Info { uvec4 blockInfo[]; };
layout(std430, binding = 2) readonly buffer Lists { uint info[]; };
#ifdef BROADCAST
layout(std430, binding = 1) readonly buffer CodeWords { uint codeWords[]; };
#endif

layout(std430, binding = 7) readonly buffer Routes { uvec2 routes[]; };

shared float sPartial[PARTIALS];

#include "finish.glsl"
#include "tail.glsl"

#define FIRST_IS_SIGNED kSignedCodes
#include "dot.glsl"

int dot16(uvec4 c, uvec4 x) {
    return dotBytes(c.x, x.x) + dotBytes(c.y, x.y) + dotBytes(c.z, x.z) + dotBytes(c.w, x.w);
}

float scaleSums(BlockScale s, float i0, float i1) {
    if (SCALE == SCALE_CODE)
        return GROUP == 16u ? s.f0 * (float(s.q0) * i0 + float(s.q1) * i1)
                            : s.f0 * float(s.q0) * (i0 + i1);
    return GROUP == 16u ? s.f0 * i0 + s.f1 * i1 : s.f0 * (i0 + i1);
}

// The zero and an integer scale are applied in integers: 32 · 127 · 127 · 128 < 2²⁷.
float scaleIntegers(BlockScale s, int i0, int i1) {
    if (GROUP == 16u && SCALE != SCALE_CODE)
        return s.f0 * float(i0) + s.f1 * float(i1);
    if (SCALE == SCALE_CODE)
        return s.f0 * float(GROUP == 16u ? s.q0 * i0 + s.q1 * i1 : s.q0 * (i0 + i1));
    return s.f0 * float(i0 + i1);
}

// What an invocation has loaded of `AHEAD` blocks of a row of every tile.
uvec4 gCodes0[RECORDS], gCodes1[RECORDS];
BlockScale gScales[RECORDS];

// Block x of an activation row: its codes, and the factor and sums of its halves.
void activationBlock(uint x, out uvec4 x0, out uvec4 x1, out uvec3 numbers) {
#ifdef BROADCAST
    // All lanes of a subgroup, which has 8 or 16, are in the same slice and need the same block: each
    // reads one word of it for all.
    uint code = codeWords[x * 8u + gl_SubgroupInvocationID % 8u],
         number = info[x * 4u + gl_SubgroupInvocationID % 4u];
    x0 = uvec4(subgroupBroadcast(code, 0u), subgroupBroadcast(code, 1u), subgroupBroadcast(code, 2u),
               subgroupBroadcast(code, 3u));
    x1 = uvec4(subgroupBroadcast(code, 4u), subgroupBroadcast(code, 5u), subgroupBroadcast(code, 6u),
               subgroupBroadcast(code, 7u));
    numbers.x = subgroupBroadcast(number, 0u);
    if (kHasZero || kHasOffset)
        numbers.yz = uvec2(subgroupBroadcast(number, 1u), subgroupBroadcast(number, 2u));
#else
    x0 = codes[x * 2u];
    x1 = codes[x * 2u + 1u];
    numbers = blockInfo[x].xyz;
#endif
}

// Activations of block x of every row, times the loaded blocks from `first` on, a tile each; they are
// read once for all tiles.
void addIntegerBlocks(uint first, uint x, uint stride, inout float sums[SUMS]) {
    [[unroll]] for (uint m = 0u; m < M; ++m) {
        uvec4 x0, x1;
        uvec3 numbers;
        activationBlock(x, x0, x1, numbers);
        float factor = uintBitsToFloat(numbers.x);
        int s0 = 0, s1 = 0;
        if (kHasZero || kHasOffset) {
            s0 = int(numbers.y);
            s1 = int(numbers.z);
        }
        [[unroll]] for (uint t = 0u; t < TILES; ++t) {
            uint r = first + t;
            int i0 = dot16(gCodes0[r], x0), i1 = dot16(gCodes1[r], x1);
            float offset = 0.0;
            if (kHasZero) {
                i0 -= gScales[r].zero * s0;
                i1 -= gScales[r].zero1 * s1;
            }
            if (kHasOffset)
                offset = GROUP == 16u ? gScales[r].o0 * float(s0) + gScales[r].o1 * float(s1)
                                      : gScales[r].o0 * float(s0 + s1);
            sums[m * TILES + t] += factor * (scaleIntegers(gScales[r], i0, i1) + offset);
        }
        x += stride;
    }
}

void addFloatBlock(Planes planes, uint record, BlockScale s, uint t, uint x, uint stride,
                   inout float sums[SUMS]) {
    vec4 w[8];
    recordFloats(planes, record, s.zero, s.zero1, w);
    [[unroll]] for (uint m = 0u; m < M; ++m) {
        uint at = x * 8u;
        vec4 v0 = w[0] * floats[at] + w[1] * floats[at + 1u] + w[2] * floats[at + 2u] +
                  w[3] * floats[at + 3u];
        vec4 v1 = w[4] * floats[at + 4u] + w[5] * floats[at + 5u] + w[6] * floats[at + 6u] +
                  w[7] * floats[at + 7u];
        float i0 = (v0.x + v0.y) + (v0.z + v0.w), i1 = (v1.x + v1.y) + (v1.z + v1.w);
        float v = KIND >= KIND_F32 ? i0 + i1 : scaleSums(s, i0, i1);
        if (kHasOffset) {
            float s0 = uintBitsToFloat(blockInfo[x].y), s1 = uintBitsToFloat(blockInfo[x].z);
            v += GROUP == 16u ? s.o0 * s0 + s.o1 * s1 : s.o0 * (s0 + s1);
        }
        sums[m * TILES + t] += v;
        x += stride;
    }
}

// What the codes leave out of activation rows, times floats: outlier columns with weights of their
// own, other values with the weights that they would have met as codes. A slice takes every SLICES-th.
void addOutliers(uint slice, uint firstRow, uint tiles[TILES], uint row, inout float sums[SUMS]) {
    uint columns = (OUTLIERS & OUTLIERS_COLUMNS) != 0u ? a.planes.columns : 0u;
    for (uint m = 0u; m < M; ++m) {
        uint at = OUTLIER_LISTS(a.stepRows, a.planes.blocks) +
                  (firstRow + m) * OUTLIER_LIST_WORDS(a.planes.blocks);
        uint end = columns + ((OUTLIERS & OUTLIERS_VALUES) != 0u ? info[at] : 0u);
        for (uint k = slice; k < end; k += SLICES) {
            uint pair = at + OUTLIER_PAIRS + 2u * k;
            float x = uintBitsToFloat(info[pair + 1u]);
            for (uint t = 0u; t < TILES; ++t)
                sums[m * TILES + t] +=
                    x * (k < columns ? outlierWeight(a.planes, tiles[t], row, k)
                                     : weightAt(a.planes, tiles[t], row, info[pair]));
        }
    }
}

// The planes of a slot's expert; its bias lies behind those of the experts before it.
Planes ofExpert(Planes p, uint expert) {
    uint at = (expert - a.firstExpert) * a.expertWords;
    p.lowAt += at;
    p.highAt += at;
    p.scaleAt += at;
    p.superScaleAt += at;
    p.offsetAt += at;
    p.superOffsetAt += at;
    return p;
}

void main() {
#ifdef BROADCAST
    uint lane = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
#else
    uint lane = gl_LocalInvocationID.x;
#endif
    uint row = lane % TILE_ROWS, slice = lane / TILE_ROWS;
    uint firstTile = gl_WorkGroupID.x * TILES, firstRow = gl_WorkGroupID.y * M;
    uint lastTile = (a.planes.rows - 1u) / TILE_ROWS;
    Planes planes = a.planes;
    uint inputRow = firstRow, expert = 0u;
    if (EXPERTS != EXPERTS_NONE) { // a slot a workgroup, one row each
        expert = routes[firstRow].x;
        if (expert < a.firstExpert || expert >= a.firstExpert + a.experts)
            return;
        planes = ofExpert(planes, expert);
        if (EXPERTS == EXPERTS_OF_ROWS)
            inputRow = firstRow / EXPERTS_USED;
    }
    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; ++i)
        sums[i] = 0.0;
    uint tiles[TILES]; // beyond the last one it is repeated, and its results are dropped
    BlockScale rowScales[TILES];
    [[unroll]] for (uint t = 0u; t < TILES; ++t) {
        tiles[t] = min(firstTile + t, lastTile);
        if (GROUP == 0u)
            rowScales[t] = blockScale(planes, tiles[t], row, 0u);
    }
    uint x = inputRow * a.planes.blocks;
    uint each = SPREAD != 0u ? 1u : (a.planes.blocks + SLICES - 1u) / SLICES;
    uint end = SPREAD != 0u ? a.planes.blocks : min(slice * each + each, a.planes.blocks);
    for (uint first = slice * each; first < end; first += kStride * AHEAD) {
        if (FLOAT != 0u) {
            [[unroll]] for (uint t = 0u; t < TILES; ++t) {
                BlockScale s = GROUP == 0u ? rowScales[t] : blockScale(planes, tiles[t], row, first);
                addFloatBlock(planes, (tiles[t] * a.planes.blocks + first) * TILE_ROWS + row, s, t, x + first,
                              a.planes.blocks, sums);
            }
            continue;
        }
        [[unroll]] for (uint u = 0u; u < AHEAD; ++u) {
            uint block = min(first + u * kStride, end - 1u);
            [[unroll]] for (uint t = 0u; t < TILES; ++t) {
                uint r = u * TILES + t;
                gScales[r] =
                    GROUP == 0u ? rowScales[t] : blockScale(planes, tiles[t], row, block);
                recordCodes(planes, (tiles[t] * a.planes.blocks + block) * TILE_ROWS + row,
                            gCodes0[r], gCodes1[r]);
            }
        }
        [[unroll]] for (uint u = 0u; u < AHEAD; ++u)
            if (first + u * kStride < end)
                addIntegerBlocks(u * TILES, x + first + u * kStride, a.planes.blocks, sums);
    }
    if (OUTLIERS != 0u)
        addOutliers(slice, firstRow, tiles, row, sums);
    [[unroll]] for (uint i = 0u; i < SUMS; ++i)
        sPartial[i * WORKGROUP + lane] = sums[i];
    barrier();
    uint slices = SLICES; // halved until few are left to add one after the other
    for (; slices > kSlicesAtOnce; slices /= 2u) {
        uint half_ = slices / 2u * TILE_ROWS;
        for (uint i = lane; i < SUMS * half_; i += WORKGROUP) {
            uint at = i / half_ * WORKGROUP + i % half_;
            sPartial[at] += sPartial[at + half_];
        }
        barrier();
    }
    const uint kPairs = TILE_ROWS / 2u;
    for (uint i = lane; i < SUMS * kPairs; i += WORKGROUP) {
        uint m = i / (TILES * kPairs), t = i / kPairs % TILES, pair = i % kPairs * 2u;
        uint n = a.planes.firstRow + (firstTile + t) * TILE_ROWS + pair;
        if (n >= a.planes.firstRow + a.planes.rows)
            continue;
        vec2 v = vec2(0.0);
        for (uint k = 0u; k < slices; ++k) {
            uint at = (m * TILES + t) * WORKGROUP + k * TILE_ROWS + pair;
            v += vec2(sPartial[at], sPartial[at + 1u]);
        }
        finishPair(firstRow + m, n, v, expert * a.planes.rows);
    }
    if (TAIL != 0u)
        prepareWhenLast(a.tail, lane, a.workgroups, a.rows);
}
