// Rows as the next product wants them: optional norm or activation(gate) · up, then floats or int8
// codes, and per block of 32 {scale, sum of the first 16, sum of the last 16}; outliers in a list.
// The including file defines sourceAt(row, i), secondAt(row, i), normWeightAt(i), normBiasAt(i),
// storeWord(i, word), storeInfo(i, words), storeListWord(i, word), keepFloat(i, value), formAt(i).

#include "numbers.glsl"

layout(constant_id = ID_PREPARE) const uint PREPARE = PREPARE_PLAIN;
layout(constant_id = ID_ACTIVATION) const uint ACTIVATION = 0u;
layout(constant_id = ID_KEEP_FLOAT) const uint KEEP_FLOAT = 0u;
layout(constant_id = ID_NORM) const uint NORM = NORM_RMS;
layout(constant_id = ID_GATE) const uint GATE = GATE_SILU;
layout(constant_id = ID_PREPARE_OUTLIERS) const uint PREPARE_OUTLIERS = 0u;
const bool kOutlierColumns = (PREPARE_OUTLIERS & OUTLIERS_COLUMNS) != 0u;
const bool kOutlierValues = (PREPARE_OUTLIERS & OUTLIERS_VALUES) != 0u;

shared float sReduce[WORKGROUP];
shared uint sCounts[WORKGROUP];

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

float hyperbolicTangent(float x) { // tanh of some drivers is no number for large x
    return 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
}

// Abramowitz and Stegun 7.1.26: within 1.5e-7.
float errorFunction(float x) {
    float t = 1.0 / (1.0 + 0.3275911 * abs(x));
    float p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t +
               0.254829592) * t;
    float e = 1.0 - p * exp(-x * x);
    return x < 0.0 ? -e : e;
}

float activated(float x) {
    if (GATE == GATE_GELU_TANH)
        return 0.5 * x * (1.0 + hyperbolicTangent(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    if (GATE == GATE_GELU)
        return 0.5 * x * (1.0 + errorFunction(x * 0.70710678118654752));
    if (GATE == GATE_CLAMPED) {
        x = min(x, 7.0);
        return x / (1.0 + exp(-1.702 * x));
    }
    return x / (1.0 + exp(-x));
}

// What a gate lets through.
float gated(float x, float up) {
    if (GATE == GATE_CLAMPED)
        up = clamp(up, -7.0, 7.0) + 1.0;
    return activated(x) * up;
}

// The same bits in each place that asks, so that a value is an outlier everywhere or nowhere.
float preparedAt(PrepareArguments a, uint row, uint i, vec2 norm) {
    if (i >= a.width)
        return 0.0;
    precise float x = sourceAt(row * a.sourceStride + i);
    if (PREPARE == PREPARE_NORM)
        x = NORM == NORM_LAYER ? (x - norm.y) * norm.x * normWeightAt(i) + normBiasAt(i)
                               : x * norm.x * normWeightAt(i);
    if (PREPARE == PREPARE_GATED)
        x = gated(x, secondAt(row * a.sourceStride + i));
    if (PREPARE == PREPARE_ACTIVATED)
        x = activated(x);
    return x;
}

bool inOutlierColumn(uint i) {
    return kOutlierColumns && (formAt(FORM_MASK + i / 32u) >> (i % 32u) & 1u) != 0u;
}

// What is no number stays, so that it spreads to the whole result.
bool isOutlierValue(uint i, float x) {
    return kOutlierValues && abs(x) >= uintBitsToFloat(formAt(FORM_THRESHOLD)) && !isBroken(x) &&
           !inOutlierColumn(i);
}

// What becomes of a value as a code.
float codedValue(uint i, float x) {
    return PREPARE_OUTLIERS != 0u && (inOutlierColumn(i) || isOutlierValue(i, x)) ? 0.0 : x;
}

void storeOutlier(uint at, uint i, float x) {
    storeListWord(at, i);
    storeListWord(at + 1u, floatBitsToUint(x));
}

// The list of a row, in the order of lanes and of their blocks: the same whenever it is made.
void storeOutliers(PrepareArguments a, uint lane, uint from, uint to, vec2 norm) {
    uint at = OUTLIER_LISTS(a.stepRows, a.blocks) + to * OUTLIER_LIST_WORDS(a.blocks);
    uint columns = kOutlierColumns ? formAt(FORM_COLUMNS) : 0u;
    for (uint k = lane; k < columns; k += WORKGROUP) {
        uint i = formAt(FORM_MASK + a.blocks + k);
        storeOutlier(at + OUTLIER_PAIRS + 2u * k, i, preparedAt(a, from, i, norm));
    }
    if (!kOutlierValues)
        return;
    uint count = 0u;
    for (uint block = lane; block < a.blocks; block += WORKGROUP)
        for (uint i = block * 32u; i < block * 32u + 32u; ++i)
            count += isOutlierValue(i, preparedAt(a, from, i, norm)) ? 1u : 0u;
    sCounts[lane] = count;
    barrier();
    uint next = columns, all = 0u;
    for (uint k = 0u; k < WORKGROUP; ++k) {
        next += k < lane ? sCounts[k] : 0u;
        all += sCounts[k];
    }
    barrier();
    if (lane == 0u)
        storeListWord(at, all);
    for (uint block = lane; count != 0u && block < a.blocks; block += WORKGROUP)
        for (uint i = block * 32u; i < block * 32u + 32u; ++i) {
            float x = preparedAt(a, from, i, norm);
            if (isOutlierValue(i, x))
                storeOutlier(at + OUTLIER_PAIRS + 2u * next++, i, x);
        }
}

// A lane has four values of a row at a time, so that neighbours read neighbours; lanes that share a
// scale, or the sum of half a block, meet in shared memory.
const uint kLanesOfScale = ACTIVATION < 32u ? 1u : ACTIVATION / 4u;
const uint kLanesOfBlock = 8u;
const uint kBrokenBits = 0x7f800000u;
shared uint sMost[WORKGROUP]; // bits of magnitudes, in the order of what they stand for
shared float sSums[WORKGROUP];

vec4 preparedWord(PrepareArguments a, uint row, uint word, vec2 norm) {
    vec4 x;
    for (uint k = 0u; k < 4u; ++k)
        x[k] = preparedAt(a, row, word * 4u + k, norm);
    return x;
}

vec4 codedWord(uint word, vec4 x) {
    for (uint k = 0u; k < 4u; ++k)
        x[k] = codedValue(word * 4u + k, x[k]);
    return x;
}

uint magnitudeBits(vec4 x) {
    uint most = 0u;
    for (uint k = 0u; k < 4u; ++k)
        most = max(most, isBroken(x[k]) ? kBrokenBits : floatBitsToUint(abs(x[k])));
    return most;
}

// The largest of what the lanes that share this lane's scale give.
uint scaleBits(uint lane, uint mine) {
    sMost[lane] = mine;
    barrier();
    uint first = lane - lane % kLanesOfScale, most = mine;
    for (uint k = 0u; k < kLanesOfScale; ++k)
        most = max(most, sMost[first + k]);
    return most;
}

// Sums of a block's halves, right in its first lane. Between two calls lies a barrier of scaleBits
// or of the caller.
vec2 blockSums(uint lane, float mine) {
    sSums[lane] = mine;
    barrier();
    vec2 sums = vec2(0.0);
    if (lane % kLanesOfBlock == 0u)
        for (uint k = 0u; k < kLanesOfBlock / 2u; ++k)
            sums += vec2(sSums[lane + k], sSums[lane + kLanesOfBlock / 2u + k]);
    return sums;
}

// The scale of a whole row's codes, its inverse, and 1 where a value is broken.
vec3 rowScale(PrepareArguments a, uint lane, uint row, vec2 norm) {
    float most = 0.0, broken = 0.0;
    for (uint i = lane; i < a.width; i += WORKGROUP) {
        float x = codedValue(i, preparedAt(a, row, i, norm));
        if (isBroken(x))
            broken = 1.0;
        else
            most = max(most, abs(x));
    }
    most = reduceMax(lane, most);
    broken = reduceMax(lane, broken);
    float scale = ACTIVATION == ACTIVATION_STATIC ? uintBitsToFloat(formAt(FORM_SCALE))
                                                  : divide(most, 127.0);
    return vec3(scale, scale > 0.0 && broken == 0.0 ? divide(1.0, scale) : 0.0, broken);
}

// Part `part` of `parts` of row `from`, as row `to`.
void prepareRow(PrepareArguments a, uint lane, uint from, uint to, uint part, uint parts) {
    vec2 norm = vec2(1.0, 0.0); // factor, mean
    if (PREPARE == PREPARE_NORM) {
        float sum = 0.0;
        if (NORM == NORM_LAYER) {
            for (uint i = lane; i < a.width; i += WORKGROUP)
                sum += sourceAt(from * a.sourceStride + i);
            norm.y = reduceSum(lane, sum) / float(a.width);
            sum = 0.0;
        }
        for (uint i = lane; i < a.width; i += WORKGROUP) {
            float x = sourceAt(from * a.sourceStride + i) - norm.y;
            sum += x * x;
        }
        norm.x = 1.0 / sqrt(reduceSum(lane, sum) / float(a.width) + a.epsilon);
    }
    if (PREPARE_OUTLIERS != 0u && part == 0u)
        storeOutliers(a, lane, from, to, norm);
    vec3 scale = vec3(1.0, 1.0, 0.0); // stored, inverse, broken
    if (ACTIVATION == ACTIVATION_TOKEN || ACTIVATION == ACTIVATION_STATIC)
        scale = rowScale(a, lane, from, norm);
    uint words = a.blocks * kLanesOfBlock;
    for (uint first = part * WORKGROUP; first < words; first += parts * WORKGROUP) {
        uint word = first + lane;
        bool inside = word < words;
        vec4 x = inside ? preparedWord(a, from, word, norm) : vec4(0.0);
        uint at = to * words + word;
        if (KEEP_FLOAT != 0u && inside)
            for (uint k = 0u; k < 4u; ++k)
                keepFloat(at * 4u + k, x[k]);
        float sum;
        if (ACTIVATION == 0u) {
            sum = (x.x + x.y) + (x.z + x.w);
            for (uint k = 0u; inside && k < 4u; ++k)
                storeWord(at * 4u + k, floatBitsToUint(x[k]));
            barrier(); // for blockSums
        } else {
            x = codedWord(word, x);
            if (ACTIVATION >= 32u) {
                uint most = scaleBits(lane, magnitudeBits(x));
                float exact = divide(uintBitsToFloat(most), 127.0);
                bool broken = most >= kBrokenBits;
                scale = vec3(unpackHalf2x16(roundToHalf(exact)).x,
                             exact > 0.0 && !broken ? divide(1.0, exact) : 0.0, broken ? 1.0 : 0.0);
            } else {
                barrier(); // for blockSums
            }
            vec4 steps = x * scale.y;
            if (ACTIVATION == ACTIVATION_STATIC)
                steps = clamp(steps, -127.0, 127.0);
            ivec4 code = scale.z != 0.0 ? ivec4(0)
                                        : ivec4(roundAway(steps.x), roundAway(steps.y),
                                                roundAway(steps.z), roundAway(steps.w));
            uvec4 bytes = uvec4(code) & 255u;
            if (inside)
                storeWord(at, bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24);
            sum = float((code.x + code.y) + (code.z + code.w)); // exact: at most 4 * 127
        }
        vec2 sums = blockSums(lane, sum);
        if (inside && lane % kLanesOfBlock == 0u) {
            uvec2 stored = ACTIVATION == 0u ? floatBitsToUint(sums) : uvec2(ivec2(sums));
            storeInfo(at / kLanesOfBlock,
                      uvec4(scale.z != 0.0 ? 0x7fc00000u : floatBitsToUint(scale.x), stored, 0u));
        }
    }
}
