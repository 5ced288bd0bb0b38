// What becomes of a product's results: bias, residual, RoPE, their place in the cache.
// The including file declares `a`, of ProductArguments.

layout(constant_id = ID_EPILOGUE) const uint EPILOGUE = EPILOGUE_STORE;
layout(constant_id = ID_BIAS) const uint BIAS = 0u;
layout(constant_id = ID_KV) const uint KV = KV_F16;

layout(std430, binding = 3) coherent buffer Result { float result[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) writeonly buffer Cache { uint cache[]; };
layout(std430, binding = 6) readonly buffer Step { uint step_[]; };

#include "numbers.glsl"

void storeCache(uint row, uint n, vec2 v) {
    uint position = step_[STEP_POSITIONS(a.stepRows) + row];
    uint pages = step_[STEP_PAGES(a.stepRows) + row];
    uint page = step_[a.listsAt + pages + position / PAGE_TOKENS];
    uint at = ((page * a.kvHeads + n / a.headSize) * PAGE_TOKENS + position % PAGE_TOKENS) *
                  a.headSize +
              n % a.headSize;
    if (KV == KV_F16) {
        cache[at / 2u] = roundToHalf(v.x) | roundToHalf(v.y) << 16;
    } else {
        cache[at] = floatBitsToUint(v.x);
        cache[at + 1u] = floatBitsToUint(v.y);
    }
}

vec2 rotate(uint row, uint n, vec2 v) {
    uint d = n % a.headSize;
    if (a.ropeAt == 0u || d >= a.ropeDims)
        return v;
    uint at = a.ropeAt + row * a.ropeDims + d;
    float c = uintBitsToFloat(step_[at]), s = uintBitsToFloat(step_[at + 1u]);
    return vec2(v.x * c - v.y * s, v.x * s + v.y * c);
}

// Two neighbouring results of an activation row: what RoPE rotates together, and one cache word.
// The bias of result n stands at biasAt + n.
void finishPair(uint row, uint n, vec2 v, uint biasAt) {
    bool both = n + 1u < a.planes.firstRow + a.planes.rows;
    if (BIAS != 0u)
        v += vec2(bias[biasAt + n], both ? bias[biasAt + n + 1u] : 0.0);
    uint at = row * a.outStride + n;
    if (EPILOGUE == EPILOGUE_KEY || EPILOGUE == EPILOGUE_VALUE) {
        if (row < step_[STEP_ROW_COUNT])
            storeCache(row, n, EPILOGUE == EPILOGUE_KEY ? rotate(row, n, v) : v);
        return;
    }
    if (EPILOGUE == EPILOGUE_QUERY)
        v = rotate(row, n, v);
    if (EPILOGUE == EPILOGUE_ADD)
        v = vec2(result[at], both ? result[at + 1u] : 0.0) + a.scale * v;
    result[at] = v.x;
    if (both)
        result[at + 1u] = v.y;
}
