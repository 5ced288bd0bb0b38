// The last workgroup of a step prepares its result for the next step's products, so that this needs
// no synchronisation of its own. No workgroup waits for another: whoever counts last does it.
// The including file declares TAIL and gives the arguments; `result` is what the step wrote.

layout(std430, binding = 7) readonly buffer TailNorm { float tailNorm[]; };
layout(std430, binding = 8) writeonly buffer TailWords { uint tailWords[]; };
layout(std430, binding = 9) writeonly buffer TailInfo { uvec4 tailInfo[]; };
layout(std430, binding = 9) writeonly buffer TailList { uint tailList[]; };
layout(std430, binding = 11) readonly buffer TailForm { uint tailForm[]; };
layout(std430, binding = 10) coherent buffer TailCount { uint tailCount; };

float sourceAt(uint i) { return result[i]; }
float secondAt(uint i) { return 1.0; }
float normWeightAt(uint i) { return tailNorm[i]; }
float normBiasAt(uint i) { return 0.0; }
void storeWord(uint i, uint word) { tailWords[i] = word; }
void storeInfo(uint i, uvec4 words) { tailInfo[i] = words; }
void storeListWord(uint i, uint word) { tailList[i] = word; }
void keepFloat(uint i, float value) {}
uint formAt(uint i) { return tailForm[i]; }

#include "prepare.glsl"

shared uint sArrived;

void prepareWhenLast(PrepareArguments a, uint lane, uint workgroups, uint rows) {
    memoryBarrierBuffer();
    barrier();
    if (lane == 0u)
        sArrived = atomicAdd(tailCount, 1u);
    barrier();
    if (sArrived + 1u != workgroups)
        return;
    memoryBarrierBuffer();
    if (lane == 0u)
        tailCount = 0u;
    for (uint row = 0u; row < rows; ++row)
        prepareRow(a, lane, row, row, 0u, 1u);
}
