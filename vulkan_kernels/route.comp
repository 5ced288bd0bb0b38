#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// The experts of a row, best first, and their weights; of equal ones those with the lower index. A
// workgroup a row.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { RouteArguments a; };
layout(constant_id = ID_EXPERT_COUNT) const uint EXPERT_COUNT = 1u;
layout(constant_id = ID_EXPERTS_USED) const uint EXPERTS_USED = 1u;
layout(constant_id = ID_EXPERT_NORM) const uint EXPERT_NORM = 1u;
layout(constant_id = ID_NORMED) const uint NORMED = NORMED_ROW;
layout(constant_id = ID_BIAS) const uint BIAS = 0u;
layout(constant_id = ID_SINKS) const uint SHARED = 0u; // 1: with the same weight, 2: with its own

layout(std430, binding = 0) readonly buffer Hidden { float hidden[]; };
layout(std430, binding = 1) readonly buffer Router { float router[]; };
layout(std430, binding = 2) readonly buffer NormWeight { float normWeight[]; };
layout(std430, binding = 3) writeonly buffer Routes { uvec2 routes[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) readonly buffer SharedRouter { float sharedRouter[]; };

shared float sSums[SMALL_WORKGROUP];
shared float sScores[EXPERT_COUNT];

float sumOfLanes(uint lane, float value) {
    sSums[lane] = value;
    barrier();
    for (uint half_ = SMALL_WORKGROUP / 2u; half_ > 0u; half_ /= 2u) {
        if (lane < half_)
            sSums[lane] += sSums[lane + half_];
        barrier();
    }
    float sum = sSums[0];
    barrier();
    return sum;
}

void main() {
    uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.y, start = row * a.width;
    float norm = 1.0;
    if (NORMED != NORMED_NOTHING) {
        float squares = 0.0;
        for (uint i = lane; i < a.width; i += SMALL_WORKGROUP)
            squares += hidden[start + i] * hidden[start + i];
        norm = 1.0 / sqrt(sumOfLanes(lane, squares) / float(a.width) + a.epsilon);
    }
    for (uint e = 0u; e < EXPERT_COUNT + (SHARED == 2u ? 1u : 0u); ++e) {
        float sum = 0.0;
        for (uint i = lane; i < a.width; i += SMALL_WORKGROUP) {
            float x = hidden[start + i] * norm;
            if (NORMED != NORMED_NOTHING)
                x *= normWeight[i];
            sum += x * (e < EXPERT_COUNT ? router[e * a.width + i] : sharedRouter[i]);
        }
        sum = sumOfLanes(lane, sum);
        if (lane == 0u && e < EXPERT_COUNT)
            sScores[e] = BIAS != 0u ? sum + bias[e] : sum;
        if (lane == 0u && e == EXPERT_COUNT)
            routes[a.slots + row] = uvec2(0u, floatBitsToUint(1.0 / (1.0 + exp(-sum))));
    }
    barrier();
    if (lane != 0u)
        return;
    if (SHARED == 1u)
        routes[a.slots + row] = uvec2(0u, floatBitsToUint(1.0));
    float largest = sScores[0], all = 0.0, mine = 0.0;
    for (uint e = 1u; e < EXPERT_COUNT; ++e)
        largest = max(largest, sScores[e]);
    for (uint e = 0u; e < EXPERT_COUNT; ++e)
        all += exp(sScores[e] - largest);
    uint chosen[EXPERTS_USED];
    for (uint k = 0u; k < EXPERTS_USED; ++k) {
        uint best = EXPERT_COUNT;
        for (uint e = 0u; e < EXPERT_COUNT; ++e) {
            bool taken = false;
            for (uint j = 0u; j < k; ++j)
                taken = taken || chosen[j] == e;
            if (!taken && (best == EXPERT_COUNT || sScores[e] > sScores[best]))
                best = e;
        }
        chosen[k] = min(best, EXPERT_COUNT - 1u); // scores that are no numbers choose the last
        mine += exp(sScores[chosen[k]] - largest);
    }
    for (uint k = 0u; k < EXPERTS_USED; ++k)
        routes[row * EXPERTS_USED + k] =
            uvec2(chosen[k],
                  floatBitsToUint(a.scale * exp(sScores[chosen[k]] - largest) /
                                  (EXPERT_NORM != 0u ? mine : all)));
}
