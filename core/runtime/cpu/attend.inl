// Attention: pages one after the other with a running maximum, so that nothing grows with the
// context. A row's result does not depend on the other rows of the call.

namespace nibble {
namespace {

template <bool half>
inline V loadKv(const std::byte* p, size_t index) {
    if constexpr (half)
        return loadHalf(reinterpret_cast<const uint16_t*>(p) + index);
    else
        return load(reinterpret_cast<const float*>(p) + index);
}

/// A query head's softmax so far.
struct Running {
    float largest, total;
};

/// weights[32] = scores of the page's tokens.
template <bool half>
inline void scorePage(const std::byte* keys, const float* query, int n, float scale,
                      float* weights) {
    V sums[kPieces];
    for (V& sum : sums)
        sum = zero();
    for (int d = 0; d < n; ++d) {
        const V q = set1(query[d]);
#pragma GCC unroll 8
        for (int i = 0; i < kPieces; ++i)
            sums[i] = fma(q, loadKv<half>(keys, size_t(d) * 32 + size_t(i) * kLanes), sums[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
        store(weights + i * kLanes, mul(sums[i], set1(scale)));
}

/// x → cap · tanh(x / cap)
inline V capped(V x, float cap) {
    const V e = exponential(mul(x, set1(2 / cap)));
    return mul(set1(cap), sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f)))));
}

/// Scores of the page's tokens [from, tokens) to weights relative to the running maximum; gives the
/// factor of what was added before.
inline float softenPage(float* weights, int from, int tokens, float cap, Running& state) {
    if (cap > 0)
        for (int i = 0; i < kPieces; ++i)
            store(weights + i * kLanes, capped(load(weights + i * kLanes), cap));
    for (int t = 0; t < from; ++t)
        weights[t] = -__builtin_inff();
    for (int t = tokens; t < 32; ++t)
        weights[t] = -__builtin_inff();
    V top = set1(state.largest);
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
        top = most(top, load(weights + i * kLanes));
    const float largest = mostOf(top);
    V sum = zero();
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
        store(weights + i * kLanes, exponential(sub(load(weights + i * kLanes), set1(largest))));
    for (int t = 0; t < from; ++t)
        weights[t] = 0;
    for (int t = tokens; t < 32; ++t)
        weights[t] = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieces; ++i)
        sum = add(sum, load(weights + i * kLanes));
    float shrink[kLanes];
    store(shrink, exponential(set1(state.largest - largest)));
    state.total = state.total * shrink[0] + sumOf(sum);
    state.largest = largest;
    return shrink[0];
}

template <bool half>
inline void addValues(const std::byte* values, const float* weights, int tokens, int padded,
                      float shrink, float* sums) {
    for (int d = 0; d < padded; d += kLanes) {
        V sum = mul(load(sums + d), set1(shrink));
        for (int t = 0; t < tokens; ++t)
            sum = fma(set1(weights[t]),
                      loadKv<half>(values, size_t(t) * size_t(padded) + size_t(d)), sum);
        store(sums + d, sum);
    }
}

void attend(const AttendTask& task) {
    const KvLayout& kv = *task.layout;
    const int n = kv.headSize, padded = kv.paddedHead(), group = kv.queriesPerHead;
    const size_t keyFloats = size_t(n) * 32, valueFloats = size_t(padded) * 32;
    float* pageKeys = threadScratch(keyFloats + valueFloats +
                                    size_t(task.rows) * size_t(group) * size_t(padded + 2));
    float* pageValues = pageKeys + keyFloats;
    float* sums = pageValues + valueFloats;
    float* states = sums + size_t(task.rows) * size_t(group) * size_t(padded);
    const int heads = task.rows * group;
    for (int i = 0; i < heads * padded; ++i)
        sums[i] = 0;
    for (int i = 0; i < heads; ++i) {
        states[2 * i] = task.sinks ? task.sinks[i % group] : -__builtin_inff();
        states[2 * i + 1] = task.sinks ? 1 : 0;
    }
    const int last = task.positions[task.rows - 1];
    for (int page = task.first(task.positions[0]) / 32; page * 32 <= last; ++page) {
        const std::byte* keys = task.layer + kv.keysAt(task.pages[page], task.kvHead);
        const std::byte* values = task.layer + kv.valuesAt(task.pages[page], task.kvHead);
        const bool halfKeys = kv.kFormat == KvFormat::F16, halfValues = kv.vFormat == KvFormat::F16;
        if (!halfKeys && kv.kFormat != KvFormat::F32) {
            kv.readKeys(keys, pageKeys);
            keys = reinterpret_cast<const std::byte*>(pageKeys);
        }
        if (!halfValues && kv.vFormat != KvFormat::F32) {
            kv.readValues(values, pageValues);
            values = reinterpret_cast<const std::byte*>(pageValues);
        }
        for (int row = 0; row < task.rows; ++row) {
            int tokens = task.positions[row] + 1 - page * 32;
            if (tokens <= 0)
                continue;
            tokens = tokens > 32 ? 32 : tokens;
            const int from = task.first(task.positions[row]) - page * 32;
            if (from >= tokens)
                continue;
            for (int h = 0; h < group; ++h) {
                const int at = row * group + h;
                const float* query = task.queries + row * task.queryStride + h * n;
                float weights[32];
                if (halfKeys)
                    scorePage<true>(keys, query, n, task.scale, weights);
                else
                    scorePage<false>(keys, query, n, task.scale, weights);
                Running state{states[2 * at], states[2 * at + 1]};
                const float shrink = softenPage(weights, from, tokens, task.cap, state);
                states[2 * at] = state.largest;
                states[2 * at + 1] = state.total;
                if (halfValues)
                    addValues<true>(values, weights, tokens, padded, shrink, sums + at * padded);
                else
                    addValues<false>(values, weights, tokens, padded, shrink, sums + at * padded);
            }
        }
    }
    for (int row = 0; row < task.rows; ++row)
        for (int h = 0; h < group; ++h)
            for (int d = 0; d < n; ++d)
                task.out[row * task.outStride + h * n + d] =
                    sums[(row * group + h) * padded + d] / states[2 * (row * group + h) + 1];
}

} // namespace
} // namespace nibble
