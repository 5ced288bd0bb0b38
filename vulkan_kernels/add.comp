#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// Adds what a layer's part made to the hidden rows: rows as they are, or the weighted sum of the
// experts that a row chose and of the shared one; normed where the model norms what is added. A
// workgroup a row.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { AddArguments a; };
layout(constant_id = ID_EXPERTS_USED) const uint EXPERTS_USED = 0u; // 0: no experts
layout(constant_id = ID_SINKS) const uint SHARED = 0u;
layout(constant_id = ID_NORMED) const uint NORMED = NORMED_NOTHING;

layout(std430, binding = 0) readonly buffer Added { float added[]; };
layout(std430, binding = 1) readonly buffer SharedRows { float sharedRows[]; };
layout(std430, binding = 2) readonly buffer NormWeight { float normWeight[]; };
layout(std430, binding = 3) buffer Hidden { float hidden[]; };
layout(std430, binding = 10) readonly buffer Routes { uvec2 routes[]; };

shared float sSums[SMALL_WORKGROUP];

float addedAt(uint row, uint i) {
    if (EXPERTS_USED == 0u)
        return added[row * a.width + i];
    float sum = 0.0;
    for (uint k = 0u; k < EXPERTS_USED; ++k) {
        uint slot = row * EXPERTS_USED + k;
        sum += uintBitsToFloat(routes[slot].y) * added[slot * a.width + i];
    }
    if (SHARED != 0u)
        sum += uintBitsToFloat(routes[a.slots + row].y) * sharedRows[row * a.width + i];
    return sum;
}

void main() {
    uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.y;
    float norm = 1.0;
    if (NORMED != NORMED_NOTHING) {
        float sum = 0.0;
        for (uint i = lane; i < a.width; i += SMALL_WORKGROUP) {
            float x = addedAt(row, i);
            sum += x * x;
        }
        sSums[lane] = sum;
        barrier();
        for (uint half_ = SMALL_WORKGROUP / 2u; half_ > 0u; half_ /= 2u) {
            if (lane < half_)
                sSums[lane] += sSums[lane + half_];
            barrier();
        }
        norm = 1.0 / sqrt(sSums[0] / float(a.width) + a.epsilon);
    }
    for (uint i = lane; i < a.width; i += SMALL_WORKGROUP) {
        float x = addedAt(row, i) * norm;
        if (NORMED != NORMED_NOTHING)
            x *= normWeight[i];
        hidden[row * a.width + i] += a.scale * x;
    }
}
