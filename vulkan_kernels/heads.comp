#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// Queries or keys whose heads are normed before they rotate; a workgroup a head of a row.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { ProductArguments a; }; // planes.rows: values of a row
layout(constant_id = ID_NORMED) const uint NORMED = NORMED_HEAD;

layout(std430, binding = 1) readonly buffer Source { float source[]; };
layout(std430, binding = 2) readonly buffer NormWeight { float normWeight[]; };

shared float sSums[SMALL_WORKGROUP];

#include "finish.glsl"

void main() {
    uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.y;
    uint first = gl_WorkGroupID.x * a.headSize, start = row * a.planes.rows;
    uint from = NORMED == NORMED_HEAD ? first : 0u;
    uint count = NORMED == NORMED_HEAD ? a.headSize : a.planes.rows;
    float sum = 0.0;
    for (uint i = lane; i < count; i += SMALL_WORKGROUP) {
        float x = source[start + from + i];
        sum += x * x;
    }
    sSums[lane] = sum;
    barrier();
    for (uint half_ = SMALL_WORKGROUP / 2u; half_ > 0u; half_ /= 2u) {
        if (lane < half_)
            sSums[lane] += sSums[lane + half_];
        barrier();
    }
    float norm = 1.0 / sqrt(sSums[0] / float(count) + a.tail.epsilon);
    for (uint i = lane * 2u; i < a.headSize; i += SMALL_WORKGROUP * 2u) {
        uint n = first + i, w = NORMED == NORMED_HEAD ? i : n;
        finishPair(row, n,
                   vec2(source[start + n] * norm * normWeight[w],
                        source[start + n + 1u] * norm * normWeight[w + 1u]),
                   0u);
    }
}
