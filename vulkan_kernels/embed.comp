#version 450
#extension GL_GOOGLE_include_directive : require
#include "weights.glsl"

// Rows of the embedding table as floats, an invocation a block of 32 values.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { EmbedArguments a; };
layout(constant_id = ID_OUTLIERS) const uint OUTLIERS = 0u;

layout(std430, binding = 1) readonly buffer Step { uint step_[]; };
layout(std430, binding = 2) writeonly buffer Result { float result[]; };
layout(std430, binding = 4) readonly buffer Positions { float positions[]; };

layout(constant_id = ID_BIAS) const uint POSITIONS = 0u; // whether a learned one is added

// What enters the first layer for column i.
float entering(uint row, uint i, float v) {
    v *= a.scale;
    if (POSITIONS != 0u)
        v += positions[step_[STEP_POSITIONS(a.stepRows) + row] * a.outStride + i];
    return v;
}

void main() {
    uint block = gl_GlobalInvocationID.x, to = gl_WorkGroupID.y;
    uint token = step_[STEP_TOKENS + to];
    if (block >= a.planes.blocks || token < a.planes.firstRow ||
        token >= a.planes.firstRow + a.planes.rows)
        return;
    uint tile = (token - a.planes.firstRow) / TILE_ROWS, row = (token - a.planes.firstRow) % TILE_ROWS;
    uint record = (tile * a.planes.blocks + block) * TILE_ROWS + row;
    BlockScale s;
    s.zero = 0;
    s.zero1 = 0;
    if (KIND < KIND_F32)
        s = blockScale(a.planes, tile, row, block);
    vec4 w[8];
    recordFloats(a.planes, record, s.zero, s.zero1, w);
    uint last = min(32u, a.outStride - block * 32u);
    for (uint i = 0u; i < last; ++i) {
        float v = w[i / 4u][i % 4u];
        if (KIND < KIND_F32) {
            v *= i < 16u ? s.f0 * float(s.q0) : s.f1 * float(s.q1);
            if (kHasOffset)
                v += i < 16u ? s.o0 : s.o1;
        }
        result[to * a.outStride + block * 32u + i] = entering(to, block * 32u + i, v);
    }
    for (uint k = 0u; OUTLIERS != 0u && k < a.planes.columns; ++k) {
        uint column = w1[a.planes.columnsAt + k];
        if (column / 32u == block)
            result[to * a.outStride + column] =
                entering(to, column, outlierWeight(a.planes, tile, row, k));
    }
}
