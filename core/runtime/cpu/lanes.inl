// The vector kernels, written once over the lanes (V, I, kLanes, load, fma, dot, …) that the
// including file defines for its instruction set.

namespace nibble {
namespace {

constexpr int kPieces = 32 / kLanes; ///< vectors of 32 values

void norm(const float* x, const float* weight, float epsilon, int64_t count, float* out) {
    V sums[2] = {zero(), zero()};
    int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes)
        for (int j = 0; j < 2; ++j) {
            const V v = load(x + i + j * kLanes);
            sums[j] = fma(v, v, sums[j]);
        }
    float squares = sumOf(add(sums[0], sums[1]));
    for (int64_t k = i; k < count; ++k)
        squares += x[k] * x[k];
    const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + epsilon);
    const V scales = set1(scale);
    for (i = 0; i + kLanes <= count; i += kLanes)
        store(out + i, mul(mul(load(x + i), scales), load(weight + i)));
    for (; i < count; ++i)
        out[i] = x[i] * scale * weight[i];
}

/// e^x to about 2 units in the last place: 2^n times a polynomial on ±ln 2 / 2 (coefficients of
/// Cephes' expf). NaN stays NaN.
inline V exponential(V x) {
    x = most(set1(-87.3f), least(set1(88.3f), x));
    const V n = nearest(mul(x, set1(1.44269504088896341f)));
    V r = fma(n, set1(-0.693359375f), x);
    r = fma(n, set1(2.12194440e-4f), r);
    V p = set1(1.9875691500e-4f);
    p = fma(p, r, set1(1.3981999507e-3f));
    p = fma(p, r, set1(8.3334519073e-3f));
    p = fma(p, r, set1(4.1665795894e-2f));
    p = fma(p, r, set1(1.6666665459e-1f));
    p = fma(p, r, set1(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, set1(1.0f)));
    return mul(p, power2(n));
}

inline V gated(V gate, V up) {
    const V below = add(set1(1.0f), exponential(sub(zero(), gate)));
    return mul(div(gate, below), up);
}

void gate(float* gate, const float* up, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        store(gate + i, gated(load(gate + i), load(up + i)));
    if (i == count)
        return;
    float lastGate[kLanes] = {}, lastUp[kLanes] = {};
    std::memcpy(lastGate, gate + i, size_t(count - i) * sizeof(float));
    std::memcpy(lastUp, up + i, size_t(count - i) * sizeof(float));
    store(lastGate, gated(load(lastGate), load(lastUp)));
    std::memcpy(gate + i, lastGate, size_t(count - i) * sizeof(float));
}

void quantize(const float* x, int64_t count, int block, int8_t* codes, float* scales,
              int32_t* sums) {
    const int64_t length = block == 0 ? count : block;
    for (int64_t from = 0; from < count; from += length) {
        const int64_t end = count - from < length ? count : from + length;
        V largest = zero(), check = zero();
        for (int64_t i = from; i < end; i += kLanes) {
            const V v = load(x + i);
            largest = most(magnitude(v), largest);
            check = add(check, sub(v, v)); // not 0 where a value is NaN or infinite
        }
        const float checked = sumOf(check);
        const bool broken = checked != checked;
        const float scale = mostOf(largest) / 127;
        const V inverse = set1(scale > 0 && !broken ? 1 / scale : 0);
        const float kept = broken       ? __builtin_nanf("")
                           : block == 0 ? scale
                                        : halfToFloat(floatToHalf(scale));
        // Adding the largest float below 1/2 before cutting off rounds halves away from zero.
        const V half = set1(0x1.fffffep-2f);
        for (int64_t at = from; at < end; at += 16) {
            int32_t sum = 0;
            for (int64_t i = at; i < at + 16; i += kLanes) {
                V scaled = zero();
                if (!broken)
                    scaled = mul(load(x + i), inverse);
                sum += storeCodes(codes + i, truncated(add(scaled, withSignOf(half, scaled))));
            }
            scales[at / 32] = kept;
            sums[at / 16] = sum;
        }
    }
}

} // namespace
} // namespace nibble
