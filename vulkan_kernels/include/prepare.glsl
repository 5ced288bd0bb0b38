// Rows as the next product wants them: optional RMS norm or SiLU(gate) · up, then floats or int8
// codes, and per block of 32 {scale, sum of the first 16, sum of the last 16}; outliers in a list.
// The including file defines sourceAt(row, i), secondAt(row, i), normWeightAt(i),
// storeWord(i, word), storeInfo(i, words), storeListWord(i, word), keepFloat(i, value), formAt(i).

#include "numbers.glsl"

layout(constant_id = ID_PREPARE) const uint PREPARE = PREPARE_PLAIN;
layout(constant_id = ID_ACTIVATION) const uint ACTIVATION = 0u;
layout(constant_id = ID_KEEP_FLOAT) const uint KEEP_FLOAT = 0u;
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

// The same bits in each place that asks, so that a value is an outlier everywhere or nowhere.
float preparedAt(PrepareArguments a, uint row, uint i, float norm) {
    if (i >= a.width)
        return 0.0;
    precise float x = sourceAt(row * a.sourceStride + i);
    if (PREPARE == PREPARE_NORM)
        x = x * norm * normWeightAt(i);
    if (PREPARE == PREPARE_SILU)
        x = x / (1.0 + exp(-x)) * secondAt(row * a.sourceStride + i);
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
void storeOutliers(PrepareArguments a, uint lane, uint from, uint to, float norm) {
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

void storeBlock(PrepareArguments a, uint from, uint to, uint block, float norm, float inverse,
                float scale, bool broken) {
    ivec2 sums = ivec2(0);
    for (uint j = 0u; j < 8u; ++j) {
        uint word = 0u;
        for (uint i = 0u; i < 4u; ++i) {
            uint at = block * 32u + j * 4u + i;
            float x = preparedAt(a, from, at, norm);
            if (KEEP_FLOAT != 0u)
                keepFloat((to * a.blocks + block) * 32u + j * 4u + i, x);
            float steps = codedValue(at, x) * inverse;
            if (ACTIVATION == ACTIVATION_STATIC)
                steps = clamp(steps, -127.0, 127.0);
            int code = broken ? 0 : roundAway(steps);
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
    if (PREPARE_OUTLIERS != 0u)
        storeOutliers(a, lane, from, to, norm);
    if (ACTIVATION == 0u) {
        for (uint block = lane; block < a.blocks; block += WORKGROUP)
            storeFloatBlock(a, from, to, block, norm);
        return;
    }
    if (ACTIVATION == ACTIVATION_TOKEN || ACTIVATION == ACTIVATION_STATIC) {
        float most = 0.0, broken = 0.0;
        for (uint i = lane; i < a.width; i += WORKGROUP) {
            float x = codedValue(i, preparedAt(a, from, i, norm));
            if (isBroken(x))
                broken = 1.0;
            else
                most = max(most, abs(x));
        }
        most = reduceMax(lane, most);
        broken = reduceMax(lane, broken);
        float scale = ACTIVATION == ACTIVATION_STATIC ? uintBitsToFloat(formAt(FORM_SCALE))
                                                      : divide(most, 127.0);
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
            float x = codedValue(first * 32u + i, preparedAt(a, from, first * 32u + i, norm));
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
