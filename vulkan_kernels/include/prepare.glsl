// Rows as the next product wants them: optional RMS norm or SiLU(gate) · up, then floats or int8
// codes, and per block of 32 {scale, sum of the first 16, sum of the last 16}. The including file
// defines sourceAt(row, i), secondAt(row, i), normWeightAt(i), storeWord(i, word),
// storeInfo(i, words), keepFloat(i, value).

#include "numbers.glsl"

layout(constant_id = ID_PREPARE) const uint PREPARE = PREPARE_PLAIN;
layout(constant_id = ID_ACTIVATION) const uint ACTIVATION = 0u;
layout(constant_id = ID_KEEP_FLOAT) const uint KEEP_FLOAT = 0u;

shared float sReduce[WORKGROUP];

float reduceSum(uint lane, float value) {
    sReduce[lane] = value;
    barrier();
    for (uint half_ = WORKGROUP / 2u; half_ > 0u; half_ /= 2u) {
        if (lane < half_)
            sReduce[lane] += sReduce[lane + half_];
        barrier();
    }
    float sum = sReduce[0];
    barrier();
    return sum;
}

float reduceMax(uint lane, float value) {
    sReduce[lane] = value;
    barrier();
    for (uint half_ = WORKGROUP / 2u; half_ > 0u; half_ /= 2u) {
        if (lane < half_)
            sReduce[lane] = max(sReduce[lane], sReduce[lane + half_]);
        barrier();
    }
    float most = sReduce[0];
    barrier();
    return most;
}

float preparedAt(PrepareArguments a, uint row, uint i, float norm) {
    if (i >= a.width)
        return 0.0;
    float x = sourceAt(row * a.sourceStride + i);
    if (PREPARE == PREPARE_NORM)
        return x * norm * normWeightAt(i);
    if (PREPARE == PREPARE_SILU)
        return x / (1.0 + exp(-x)) * secondAt(row * a.sourceStride + i);
    return x;
}

void storeBlock(PrepareArguments a, uint from, uint to, uint block, float norm, float inverse,
                float scale, bool broken) {
    ivec2 sums = ivec2(0);
    for (uint j = 0u; j < 8u; ++j) {
        uint word = 0u;
        for (uint i = 0u; i < 4u; ++i) {
            float x = preparedAt(a, from, block * 32u + j * 4u + i, norm);
            if (KEEP_FLOAT != 0u)
                keepFloat((to * a.blocks + block) * 32u + j * 4u + i, x);
            int code = broken ? 0 : roundAway(x * inverse);
            sums[j / 4u] += code;
            word |= (uint(code) & 255u) << (8u * i);
        }
        storeWord((to * a.blocks + block) * 8u + j, word);
    }
    storeInfo(to * a.blocks + block,
              uvec4(broken ? 0x7fc00000u : floatBitsToUint(scale), uint(sums.x), uint(sums.y), 0u));
}

void storeFloatBlock(PrepareArguments a, uint from, uint to, uint block, float norm) {
    vec2 sums = vec2(0.0);
    for (uint j = 0u; j < 32u; ++j) {
        float x = preparedAt(a, from, block * 32u + j, norm);
        sums[j / 16u] += x;
        storeWord((to * a.blocks + block) * 32u + j, floatBitsToUint(x));
        if (KEEP_FLOAT != 0u)
            keepFloat((to * a.blocks + block) * 32u + j, x);
    }
    storeInfo(to * a.blocks + block, uvec4(floatBitsToUint(1.0), floatBitsToUint(sums), 0u));
}


void prepareRow(PrepareArguments a, uint lane, uint from, uint to) {
    float norm = 1.0;
    if (PREPARE == PREPARE_NORM) {
        float sum = 0.0;
        for (uint i = lane; i < a.width; i += WORKGROUP) {
            float x = sourceAt(from * a.sourceStride + i);
            sum += x * x;
        }
        norm = 1.0 / sqrt(reduceSum(lane, sum) / float(a.width) + a.epsilon);
    }
    if (ACTIVATION == 0u) {
        for (uint block = lane; block < a.blocks; block += WORKGROUP)
            storeFloatBlock(a, from, to, block, norm);
        return;
    }
    if (ACTIVATION == ACTIVATION_TOKEN) {
        float most = 0.0, broken = 0.0;
        for (uint i = lane; i < a.width; i += WORKGROUP) {
            float x = preparedAt(a, from, i, norm);
            if (isBroken(x))
                broken = 1.0;
            else
                most = max(most, abs(x));
        }
        most = reduceMax(lane, most);
        broken = reduceMax(lane, broken);
        float scale = divide(most, 127.0);
        float inverse = scale > 0.0 && broken == 0.0 ? divide(1.0, scale) : 0.0;
        for (uint block = lane; block < a.blocks; block += WORKGROUP)
            storeBlock(a, from, to, block, norm, inverse, scale, broken != 0.0);
        return;
    }
    uint each = ACTIVATION / 32u;
    for (uint first = lane * each; first < a.blocks; first += WORKGROUP * each) {
        float most = 0.0;
        bool broken = false;
        for (uint i = 0u; i < ACTIVATION; ++i) {
            float x = preparedAt(a, from, first * 32u + i, norm);
            broken = broken || isBroken(x);
            most = max(most, abs(x));
        }
        float scale = divide(most, 127.0);
        float stored = unpackHalf2x16(roundToHalf(scale)).x;
        float inverse = scale > 0.0 && !broken ? divide(1.0, scale) : 0.0;
        for (uint block = first; block < min(first + each, a.blocks); ++block)
            storeBlock(a, from, to, block, norm, inverse, stored, broken);
    }
}
