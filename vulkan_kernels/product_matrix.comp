#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix : require
#extension GL_NV_integer_cooperative_matrix : require
#include "weights.glsl"

// Many activation rows times a matrix, in 8-bit integers on the device's matrix units. A workgroup has
// MATRIX_ROWS activation rows and MATRIX_COLS matrix rows, a subgroup a part of both. The integer sums
// of a block of 32 are exact; each is scaled and added to a float, as everywhere. Zeros and offsets of
// formats come in as a second outer product: offset of the matrix row · sum of the activations.
layout(local_size_x = MATRIX_WORKGROUP) in;

layout(push_constant) uniform Arguments { ProductArguments a; };

layout(std430, binding = 1) readonly buffer Codes { uvec4 codes[]; };
layout(std430, binding = 2) readonly buffer Info { uvec4 blockInfo[]; };

#include "finish.glsl"

const uint kSubgroup = 32u, kSide = 16u, kStep = MATRIX_STEP;
const uint kAcross = MATRIX_COLS / MATRIX_SUBGROUP_COLS; // subgroups side by side
const uint kRowTiles = MATRIX_SUBGROUP_ROWS / kSide, kColTiles = MATRIX_SUBGROUP_COLS / kSide;
// Of a 16 × 16 matrix in an invocation. Its length() is a specialization constant, on which a driver
// of the KHR extension was seen to crash.
const uint kElements = kSide * kSide / kSubgroup;
const uint kPitch = 3u; // uvec4 of a row of 32 codes in shared memory: one to keep banks apart

shared uvec4 sLeft[kStep * MATRIX_ROWS * kPitch], sRight[kStep * MATRIX_COLS * kPitch];
shared float sLeftScale[kStep * MATRIX_ROWS], sRightScale[kStep * MATRIX_COLS];
shared float sLeftSum[kStep * MATRIX_ROWS], sRightOffset[kStep * MATRIX_COLS];
shared float sOut[MATRIX_WORKGROUP / kSubgroup * kSide * kSide]; // a tile of each subgroup

const bool kOffsets = kHasOffset || OFFSET == OFFSET_ZERO;

uint lessZero(uint word) { // four codes below 128 less ZERO, as signed bytes
    uint flipped = (word | 0x80808080u) - uint(ZERO) * 0x01010101u;
    return flipped ^ 0x80808080u;
}

uvec4 signedCodes(uvec4 c) {
    if (kSignedCodes || ZERO == 0 || OFFSET == OFFSET_ZERO)
        return c;
    return uvec4(lessZero(c.x), lessZero(c.y), lessZero(c.z), lessZero(c.w));
}

// What an invocation fetches of the next blocks while the units work on the last ones.
const uint kRights = kStep * MATRIX_COLS / MATRIX_WORKGROUP;
const uint kLefts = (kStep * MATRIX_ROWS + MATRIX_WORKGROUP - 1u) / MATRIX_WORKGROUP;
uvec4 gRight0[kRights], gRight1[kRights], gLeft0[kLefts], gLeft1[kLefts];
vec2 gRightScale[kRights], gLeftScale[kLefts]; // and offset, or sum

void fetch(uint lane, uint firstRow, uint firstCol, uint first) {
    const uint lastTile = (a.planes.rows - 1u) / TILE_ROWS;
    [[unroll]] for (uint n = 0u; n < kRights; ++n) {
        uint i = lane + n * MATRIX_WORKGROUP, col = i % MATRIX_COLS;
        uint block = min(first + i / MATRIX_COLS, a.planes.blocks - 1u);
        uint tile = min((firstCol + col) / TILE_ROWS, lastTile), row = col % TILE_ROWS;
        recordCodes(a.planes, (tile * a.planes.blocks + block) * TILE_ROWS + row, gRight0[n],
                    gRight1[n]);
        BlockScale s = blockScale(a.planes, tile, row, block);
        float scale = s.f0 * float(s.q0);
        gRightScale[n] = vec2(scale, OFFSET == OFFSET_ZERO ? -scale * float(s.zero) : s.o0);
    }
    [[unroll]] for (uint n = 0u; n < kLefts; ++n) {
        uint i = lane + n * MATRIX_WORKGROUP;
        uint row = firstRow + i % MATRIX_ROWS, block = first + i / MATRIX_ROWS;
        bool inside = i < kStep * MATRIX_ROWS && row < a.rows && block < a.planes.blocks;
        uint x = inside ? row * a.planes.blocks + block : 0u;
        gLeft0[n] = codes[x * 2u];
        gLeft1[n] = codes[x * 2u + 1u];
        uvec4 numbers = blockInfo[x];
        float factor = inside ? uintBitsToFloat(numbers.x) : 0.0;
        gLeftScale[n] = vec2(factor, factor * float(int(numbers.y) + int(numbers.z)));
    }
}

void place(uint lane) {
    [[unroll]] for (uint n = 0u; n < kRights; ++n) {
        uint i = lane + n * MATRIX_WORKGROUP;
        sRight[i * kPitch] = signedCodes(gRight0[n]);
        sRight[i * kPitch + 1u] = signedCodes(gRight1[n]);
        sRightScale[i] = gRightScale[n].x;
        if (kOffsets)
            sRightOffset[i] = gRightScale[n].y;
    }
    [[unroll]] for (uint n = 0u; n < kLefts; ++n) {
        uint i = lane + n * MATRIX_WORKGROUP;
        if (i >= kStep * MATRIX_ROWS)
            continue;
        sLeft[i * kPitch] = gLeft0[n];
        sLeft[i * kPitch + 1u] = gLeft1[n];
        sLeftScale[i] = gLeftScale[n].x;
        if (kOffsets)
            sLeftSum[i] = gLeftScale[n].y;
    }
}

void main() {
    const uint lane = gl_LocalInvocationID.x, subgroup = lane / kSubgroup;
    const uint firstRow = gl_WorkGroupID.y * MATRIX_ROWS, firstCol = gl_WorkGroupID.x * MATRIX_COLS;
    const uint rowOf = subgroup / kAcross * MATRIX_SUBGROUP_ROWS;
    const uint colOf = subgroup % kAcross * MATRIX_SUBGROUP_COLS;
    fcoopmatNV<32, gl_ScopeSubgroup, 16, 16> sums[kRowTiles * kColTiles];
    [[unroll]] for (uint i = 0u; i < kRowTiles * kColTiles; ++i)
        sums[i] = fcoopmatNV<32, gl_ScopeSubgroup, 16, 16>(0.0);
    fetch(lane, firstRow, firstCol, 0u);
    for (uint first = 0u; first < a.planes.blocks; first += kStep) {
        barrier();
        place(lane);
        barrier();
        fetch(lane, firstRow, firstCol, first + kStep);
        [[unroll]] for (uint k = 0u; k < kStep; ++k) {
            icoopmatNV<8, gl_ScopeSubgroup, 16, 32> left[kRowTiles];
            fcoopmatNV<32, gl_ScopeSubgroup, 16, 16> leftScale[kRowTiles], leftSum[kRowTiles];
            [[unroll]] for (uint r = 0u; r < kRowTiles; ++r) {
                uint at = k * MATRIX_ROWS + rowOf + r * kSide;
                coopMatLoadNV(left[r], sLeft, at * kPitch, kPitch, false);
                coopMatLoadNV(leftScale[r], sLeftScale, at, 0u, true);
                if (kOffsets)
                    coopMatLoadNV(leftSum[r], sLeftSum, at, 0u, true);
            }
            [[unroll]] for (uint c = 0u; c < kColTiles; ++c) {
                uint at = k * MATRIX_COLS + colOf + c * kSide;
                icoopmatNV<8, gl_ScopeSubgroup, 32, 16> right;
                fcoopmatNV<32, gl_ScopeSubgroup, 16, 16> rightScale, rightOffset;
                coopMatLoadNV(right, sRight, at * kPitch, kPitch, true);
                coopMatLoadNV(rightScale, sRightScale, at, 0u, false);
                if (kOffsets)
                    coopMatLoadNV(rightOffset, sRightOffset, at, 0u, false);
                [[unroll]] for (uint r = 0u; r < kRowTiles; ++r) {
                    icoopmatNV<32, gl_ScopeSubgroup, 16, 16> whole =
                        icoopmatNV<32, gl_ScopeSubgroup, 16, 16>(0);
                    whole = coopMatMulAddNV(left[r], right, whole);
                    fcoopmatNV<32, gl_ScopeSubgroup, 16, 16> product =
                        fcoopmatNV<32, gl_ScopeSubgroup, 16, 16>(whole);
                    [[unroll]] for (uint e = 0u; e < kElements; ++e) {
                        float v = product[e] * rightScale[e];
                        sums[c * kRowTiles + r][e] += leftScale[r][e] * v;
                        if (kOffsets)
                            sums[c * kRowTiles + r][e] += leftSum[r][e] * rightOffset[e];
                    }
                }
            }
        }
    }
    const uint out_ = subgroup * kSide * kSide;
    [[unroll]] for (uint i = 0u; i < kRowTiles * kColTiles; ++i) {
        coopMatStoreNV(sums[i], sOut, out_, kSide, false);
        barrier();
        uint rowAt = firstRow + rowOf + i % kRowTiles * kSide;
        uint colAt = firstCol + colOf + i / kRowTiles * kSide;
        for (uint pair = lane % kSubgroup; pair < kSide * kSide / 2u; pair += kSubgroup) {
            uint row = rowAt + pair / (kSide / 2u), col = colAt + pair % (kSide / 2u) * 2u;
            if (row < a.rows && col < a.planes.rows)
                finishPair(row, a.planes.firstRow + col,
                           vec2(sOut[out_ + pair * 2u], sOut[out_ + pair * 2u + 1u]), 0u);
        }
        barrier();
    }
}
