#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// Makes rows of floats the input of products; a row's parts are workgroups of their own.
layout(local_size_x_id = ID_WORKGROUP) in;
layout(constant_id = ID_WORKGROUP) const uint WORKGROUP = 64u;

layout(push_constant) uniform Arguments { PrepareArguments a; };
layout(constant_id = ID_LOGIT_ROWS) const uint LOGIT_ROWS = 0u;

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 1) readonly buffer Second { float second[]; };
layout(std430, binding = 2) readonly buffer NormWeight { float normWeight[]; };
layout(std430, binding = 3) readonly buffer Step { uint step_[]; };
layout(std430, binding = 4) writeonly buffer Words { uint words[]; };
layout(std430, binding = 5) writeonly buffer Info { uvec4 info[]; };
layout(std430, binding = 5) writeonly buffer List { uint list[]; };
layout(std430, binding = 7) readonly buffer Form { uint form[]; };
layout(std430, binding = 8) readonly buffer NormBias { float normBias[]; };
layout(std430, binding = 6) writeonly buffer Kept { float kept[]; };

float sourceAt(uint i) { return source[i]; }
float secondAt(uint i) { return second[i]; }
float normWeightAt(uint i) { return normWeight[i]; }
float normBiasAt(uint i) { return normBias[i]; }
void storeWord(uint i, uint word) { words[i] = word; }
void storeInfo(uint i, uvec4 value) { info[i] = value; }
void storeListWord(uint i, uint word) { list[i] = word; }
void keepFloat(uint i, float value) { kept[i] = value; }
uint formAt(uint i) { return form[i]; }

#include "prepare.glsl"

void main() {
    uint to = gl_WorkGroupID.y;
    uint from = LOGIT_ROWS == 0u ? to : step_[STEP_LOGIT_ROWS(a.stepRows) + to];
    prepareRow(a, gl_LocalInvocationID.x, from, to, gl_WorkGroupID.x, gl_NumWorkGroups.x);
}
