#include "core/base/half.h"
#include "core/runtime/cpu/scalar_products.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace nibble {
namespace {

bool always() {
    return true;
}

void norm(const float* x, const float* weight, float epsilon, int64_t count, float* out) {
    double squares = 0;
    for (int64_t i = 0; i < count; ++i)
        squares += double(x[i]) * double(x[i]);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(count) + double(epsilon));
    for (int64_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(double(x[i]) * scale) * weight[i];
}

void gate(float* gate, const float* up, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

void quantize(const float* x, int64_t count, int block, int8_t* codes, float* scales,
              int32_t* sums) {
    const int64_t length = block == 0 ? count : block;
    for (int64_t from = 0; from < count; from += length) {
        const int64_t end = std::min(count, from + length);
        float largest = 0;
        bool broken = false;
        for (int64_t i = from; i < end; ++i) {
            largest = std::max(largest, std::fabs(x[i]));
            broken = broken || !std::isfinite(x[i]);
        }
        const float scale = largest / 127;
        const float inverse = scale > 0 ? 1 / scale : 0;
        // A NaN or infinity has no code; as the scale it spreads to the whole result.
        const float kept = broken       ? std::nanf("")
                           : block == 0 ? scale
                                        : halfToFloat(floatToHalf(scale));
        for (int64_t at = from; at < end; at += 16) {
            int32_t sum = 0;
            for (int64_t i = at; i < at + 16; ++i) {
                codes[i] = broken ? int8_t(0) : static_cast<int8_t>(std::round(x[i] * inverse));
                sum += codes[i];
            }
            scales[at / 32] = kept;
            sums[at / 16] = sum;
        }
    }
}

/// softmax(scale · q · K) V for each query head of the group, in double.
void attend(const AttendTask& task) {
    const KvLayout& kv = *task.layout;
    const auto n = static_cast<size_t>(kv.headSize), padded = static_cast<size_t>(kv.paddedHead());
    std::vector<float> keys(n * kPageTokens), values(padded * kPageTokens);
    std::vector<double> scores, sum(n);
    for (int32_t row = 0; row < task.rows; ++row) {
        const int32_t length = task.positions[row] + 1;
        for (int32_t h = 0; h < kv.queriesPerHead; ++h) {
            const float* q = task.queries + row * task.queryStride + h * kv.headSize;
            const int32_t first = task.first(task.positions[row]);
            scores.assign(static_cast<size_t>(length), 0);
            for (int32_t t = first; t < length; ++t) {
                if (t == first || t % kPageTokens == 0)
                    kv.readKeys(task.layer + kv.keysAt(task.pages[t / kPageTokens], task.kvHead),
                                keys.data());
                for (size_t d = 0; d < n; ++d)
                    scores[size_t(t)] +=
                        double(q[d]) * double(keys[d * kPageTokens + size_t(t % kPageTokens)]);
                scores[size_t(t)] *= double(task.scale);
                if (task.cap > 0)
                    scores[size_t(t)] =
                        double(task.cap) * std::tanh(scores[size_t(t)] / double(task.cap));
            }
            double largest = *std::max_element(scores.begin() + first, scores.end());
            if (task.sinks)
                largest = std::max(largest, double(task.sinks[h]));
            double total = task.sinks ? std::exp(double(task.sinks[h]) - largest) : 0;
            for (int32_t t = first; t < length; ++t)
                total += scores[size_t(t)] = std::exp(scores[size_t(t)] - largest);
            std::fill(sum.begin(), sum.end(), 0);
            for (int32_t t = first; t < length; ++t) {
                if (t == first || t % kPageTokens == 0)
                    kv.readValues(task.layer +
                                      kv.valuesAt(task.pages[t / kPageTokens], task.kvHead),
                                  values.data());
                for (size_t d = 0; d < n; ++d)
                    sum[d] +=
                        scores[size_t(t)] * double(values[size_t(t % kPageTokens) * padded + d]);
            }
            for (size_t d = 0; d < n; ++d)
                task.out[row * task.outStride + h * kv.headSize + int64_t(d)] =
                    static_cast<float>(sum[d] / total);
        }
    }
}

double spin(int64_t times) {
    volatile int8_t codes[32] = {};
    int32_t sum = 0;
    for (int64_t t = 0; t < times; ++t)
        for (const volatile int8_t& code : codes)
            sum += code * code;
    return sum == 0 ? 2.0 * 32 * static_cast<double>(times) : 0;
}

ProductChoice choose(const Format& format, ActivationFormat activations) {
    if (format.isFloat() || activations == ActivationFormat::Float)
        return {scalarFloatProduct, false, "scalar"};
    return {scalarIntegerProduct, false, "scalar"};
}

} // namespace

const CpuKernels kScalarKernels{"scalar", "scalar", always, norm,  gate,
                                quantize, attend,   spin,   choose};

} // namespace nibble
