#version 450
#extension GL_GOOGLE_include_directive : require
#include "interface.h"

// Gated short convolutions: c · Σ taps · (b · x) over a row and those before it, an invocation a
// channel of a row. b, c and x of a row lie behind each other. What the call's own rows do not hold
// was kept in pages; a second dispatch keeps what later calls will look for.
layout(local_size_x = SMALL_WORKGROUP) in;

layout(push_constant) uniform Arguments { ConvolutionArguments a; };
layout(constant_id = ID_KEEPS) const uint KEEPS = 0u;

layout(std430, binding = 0) readonly buffer Gates { float gates[]; };
layout(std430, binding = 1) readonly buffer Filter { float filter_[]; };
layout(std430, binding = 2) readonly buffer Kept { float kept[]; };
layout(std430, binding = 3) writeonly buffer Out { float out_[]; };
layout(std430, binding = 4) writeonly buffer Keep { float keep[]; };
layout(std430, binding = 6) readonly buffer Step { uint step_[]; };

uint listOf(uint row) {
    return step_[STEP_PAGES(a.stepRows) + row];
}

// b · x of one of the call's rows.
float made(uint row, uint i) {
    uint at = row * 3u * a.width + i;
    return gates[at] * gates[at + 2u * a.width];
}

// Where a position's is kept.
uint slotAt(uint row, uint position, uint i) {
    uint page = step_[a.listsAt + listOf(row) + position / PAGE_TOKENS];
    uint slots = a.taps - 1u;
    return (page * slots + position % slots) * a.width + i;
}

void main() {
    uint row = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (i >= a.width)
        return;
    bool real = row < step_[STEP_ROW_COUNT];
    uint position = step_[STEP_POSITIONS(a.stepRows) + row];
    if (KEEPS != 0u) {
        // A later row of the sequence may use the same slot.
        uint later = row + a.taps - 1u;
        bool last = later >= step_[STEP_ROW_COUNT] || listOf(later) != listOf(row) ||
                    (position + a.taps - 1u) / PAGE_TOKENS != position / PAGE_TOKENS;
        if (real && last)
            keep[slotAt(row, position, i)] = made(row, i);
        return;
    }
    float sum = 0.0;
    for (uint back = a.taps; real && back-- > 0u;) {
        if (back > position)
            continue;
        bool inCall = back <= row && listOf(row - back) == listOf(row);
        float x = inCall ? made(row - back, i) : kept[slotAt(row, position - back, i)];
        sum += filter_[i * a.taps + a.taps - 1u - back] * x;
    }
    out_[row * a.width + i] = sum * gates[row * 3u * a.width + a.width + i];
}
