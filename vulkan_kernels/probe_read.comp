#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// What the device's memory gives at best: every invocation sums PROBE_READS vectors, neighbours next
// to each other. One number is written, that no read can be left out.
layout(local_size_x = PROBE_WORKGROUP) in;

layout(push_constant) uniform Arguments { ProbeArguments a; };
layout(std430, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(std430, binding = 1) writeonly buffer Result { uint result[]; };

void main() {
    uint first = gl_WorkGroupID.x * (PROBE_WORKGROUP * PROBE_READS) + gl_LocalInvocationID.x;
    uvec4 sum = uvec4(0u);
    for (uint i = 0u; i < PROBE_READS; ++i) {
        uint at = first + i * PROBE_WORKGROUP;
        if (at < a.count)
            sum ^= source[at];
    }
    if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == a.never)
        result[0] = 1u;
}
