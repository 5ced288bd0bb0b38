#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
#include "interface.h"

// How many multiplications of 8-bit integers a device does in a second: eight chains of dot products
// an invocation, `count` links each.
layout(local_size_x = PROBE_WORKGROUP) in;

layout(push_constant) uniform Arguments { ProbeArguments a; };
layout(std430, binding = 1) writeonly buffer Result { uint result[]; };

#include "dot.glsl"

void main() {
    uint seed = gl_GlobalInvocationID.x * 2654435761u + a.never;
    int sums[PROBE_CHAINS];
    for (uint i = 0u; i < PROBE_CHAINS; ++i)
        sums[i] = int(seed + i * 40503u);
    for (uint k = 0u; k < a.count; ++k)
        for (uint i = 0u; i < PROBE_CHAINS; ++i)
            sums[i] += dotBytes(seed + k, uint(sums[i]));
    int sum = 0;
    for (uint i = 0u; i < PROBE_CHAINS; ++i)
        sum ^= sums[i];
    if (uint(sum) == a.never)
        result[0] = 1u;
}
