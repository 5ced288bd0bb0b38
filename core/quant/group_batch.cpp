#include "core/quant/group_batch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace nibble {
namespace {

/// Adding and subtracting 1.5 · 2^23 rounds to the nearest even integer.
constexpr float kRound = 12582912.0f;

[[gnu::always_inline]] inline Lanes inverseOf(const Lanes& scale) {
    Lanes inverse;
    for (int lane = 0; lane < kLanes; ++lane)
        inverse.at[lane] = inverseScale(scale.at[lane]);
    return inverse;
}

/// Level nearest to t among the integers of a lane.
struct NearestInteger {
    const Lanes &low, &high;
    explicit NearestInteger(const Levels&, const LaneGrid& grid) : low(grid.low), high(grid.high) {}
    [[gnu::always_inline]] float operator()(float t, int lane) const {
        t = t < low.at[lane] ? low.at[lane] : t;
        t = t > high.at[lane] ? high.at[lane] : t;
        return (t + kRound) - kRound;
    }
};

/// out[i], i = number of thresholds below t. Written out: a loop here is not if-converted.
[[gnu::always_inline]] inline float pick(const float (&at)[15], const float (&out)[16], float t) {
    float v = out[0];
    v = t > at[0] ? out[1] : v;
    v = t > at[1] ? out[2] : v;
    v = t > at[2] ? out[3] : v;
    v = t > at[3] ? out[4] : v;
    v = t > at[4] ? out[5] : v;
    v = t > at[5] ? out[6] : v;
    v = t > at[6] ? out[7] : v;
    v = t > at[7] ? out[8] : v;
    v = t > at[8] ? out[9] : v;
    v = t > at[9] ? out[10] : v;
    v = t > at[10] ? out[11] : v;
    v = t > at[11] ? out[12] : v;
    v = t > at[12] ? out[13] : v;
    v = t > at[13] ? out[14] : v;
    return t > at[14] ? out[15] : v;
}

/// Level nearest to t in a table.
struct NearestOfTable {
    float thresholds[15], values[16];
    explicit NearestOfTable(const Levels& levels, const LaneGrid&) {
        std::copy(levels.thresholds, levels.thresholds + 15, thresholds);
        std::copy(levels.values, levels.values + 16, values);
    }
    [[gnu::always_inline]] float operator()(float t, int) const {
        return pick(thresholds, values, t);
    }
};

template <typename Nearest, bool hasOffset, bool isWeighted>
[[gnu::always_inline]] inline void
sumInto(GroupBatch::Sums& sums, const float* __restrict x, const float* __restrict w, int steps,
        const Levels& levels, const LaneGrid& grid, const Lanes& inverse) {
    const Nearest nearest(levels, grid);
    float sl[kLanes] = {}, sxl[kLanes] = {}, sll[kLanes] = {};
    for (int i = 0; i < steps; ++i, x += kLanes, w += kLanes)
        for (int lane = 0; lane < kLanes; ++lane) {
            const float from = hasOffset ? x[lane] - grid.offset.at[lane] : x[lane];
            const float l = nearest(from * inverse.at[lane], lane);
            const float wl = isWeighted ? w[lane] * l : l;
            if (hasOffset)
                sl[lane] += wl;
            sxl[lane] += wl * x[lane];
            sll[lane] += wl * l;
        }
    std::copy(sl, sl + kLanes, sums.l.at);
    std::copy(sxl, sxl + kLanes, sums.xl.at);
    std::copy(sll, sll + kLanes, sums.ll.at);
}

template <typename Nearest, bool hasOffset, bool isWeighted>
[[gnu::always_inline]] inline void
errorsInto(Lanes& errors, const float* __restrict x, const float* __restrict w, int steps,
           const Levels& levels, const LaneGrid& grid, const Lanes& inverse) {
    const Nearest nearest(levels, grid);
    float sum[kLanes] = {};
    for (int i = 0; i < steps; ++i, x += kLanes, w += kLanes)
        for (int lane = 0; lane < kLanes; ++lane) {
            const float from = hasOffset ? x[lane] - grid.offset.at[lane] : x[lane];
            const float l = nearest(from * inverse.at[lane], lane);
            const float difference = from - grid.scale.at[lane] * l;
            const float weighted = isWeighted ? w[lane] * difference : difference;
            sum[lane] += weighted * difference;
        }
    std::copy(sum, sum + kLanes, errors.at);
}

template <bool isWeighted>
[[gnu::always_inline]] inline void sumOfKind(GroupBatch::Sums& out, const float* x, const float* w,
                                             int steps, const Levels& levels, const LaneGrid& grid,
                                             bool hasOffset) {
    const Lanes inverse = inverseOf(grid.scale);
    if (levels.isTable)
        sumInto<NearestOfTable, false, isWeighted>(out, x, w, steps, levels, grid, inverse);
    else if (hasOffset)
        sumInto<NearestInteger, true, isWeighted>(out, x, w, steps, levels, grid, inverse);
    else
        sumInto<NearestInteger, false, isWeighted>(out, x, w, steps, levels, grid, inverse);
}
/// w is null where all weights are 1.
NIBBLE_CLONED void sumLevels(GroupBatch::Sums& out, const float* x, const float* w, int steps,
                             const Levels& levels, const LaneGrid& grid, bool hasOffset) {
    if (w)
        sumOfKind<true>(out, x, w, steps, levels, grid, hasOffset);
    else
        sumOfKind<false>(out, x, x, steps, levels, grid, hasOffset);
}

template <bool isWeighted>
[[gnu::always_inline]] inline void errorsOfKind(Lanes& out, const float* x, const float* w,
                                                int steps, const Levels& levels,
                                                const LaneGrid& grid, bool hasOffset) {
    const Lanes inverse = inverseOf(grid.scale);
    if (levels.isTable)
        errorsInto<NearestOfTable, false, isWeighted>(out, x, w, steps, levels, grid, inverse);
    else if (hasOffset)
        errorsInto<NearestInteger, true, isWeighted>(out, x, w, steps, levels, grid, inverse);
    else
        errorsInto<NearestInteger, false, isWeighted>(out, x, w, steps, levels, grid, inverse);
}
/// w is null where all weights are 1.
NIBBLE_CLONED void sumErrors(Lanes& out, const float* x, const float* w, int steps,
                             const Levels& levels, const LaneGrid& grid, bool hasOffset) {
    if (w)
        errorsOfKind<true>(out, x, w, steps, levels, grid, hasOffset);
    else
        errorsOfKind<false>(out, x, x, steps, levels, grid, hasOffset);
}

NIBBLE_CLONED void measure(GroupBatch::Extent& out, const float* __restrict x,
                           const float* __restrict w, int steps) {
    float low[kLanes] = {}, high[kLanes] = {}, sw[kLanes] = {}, swx[kLanes] = {};
    constexpr float kFar = std::numeric_limits<float>::max();
    std::fill(low, low + kLanes, kFar);
    std::fill(high, high + kLanes, -kFar);
    for (int i = 0; i < steps; ++i, x += kLanes, w += kLanes)
        for (int lane = 0; lane < kLanes; ++lane) {
            low[lane] = x[lane] < low[lane] ? x[lane] : low[lane];
            high[lane] = x[lane] > high[lane] ? x[lane] : high[lane];
            sw[lane] += w[lane];
            swx[lane] += w[lane] * x[lane];
        }
    std::copy(low, low + kLanes, out.low.at);
    std::copy(high, high + kLanes, out.high.at);
    std::copy(sw, sw + kLanes, out.w.at);
    std::copy(swx, swx + kLanes, out.wx.at);
}

/// Magnitudes of floats compare like their bits.
NIBBLE_CLONED uint32_t largestBits(const float* values, int64_t count) {
    uint32_t most = 0;
    for (int64_t i = 0; i < count; ++i)
        most = std::max(most, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    return most;
}

/// The exponent of the least power of two above all magnitudes; those below the smallest normal
/// float32 count as that.
int exponentAbove(uint32_t bits) {
    return static_cast<int>(std::max(bits >> 23, 1u)) - 126;
}
float powerOfTwo(int exponent) {
    return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}
double doublePowerOfTwo(int exponent) {
    return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

/// Values times 2^-exponent into every kLanes-th place. In two factors, because one may be beyond
/// float32.
void spread(const float* from, int64_t count, int exponent, float* to) {
    const float a = powerOfTwo(-(exponent / 2)), b = powerOfTwo(-(exponent - exponent / 2));
    for (int64_t i = 0; i < count; ++i)
        to[i * kLanes] = from[i] * a * b;
}

using Four [[gnu::vector_size(16)]] = float;

/// The same for kLanes groups of `length` values, a multiple of 4, in squares of 4 × 4.
void spreadAll(const float* from, int64_t length, const std::array<float, kLanes>& a,
               const std::array<float, kLanes>& b, float* to) {
    const auto at = [&](int64_t group, int64_t i) {
        Four values;
        std::memcpy(&values, from + group * length + i, sizeof values);
        const auto g = static_cast<size_t>(group);
        return values * a[g] * b[g];
    };
    for (int64_t i = 0; i < length; i += 4)
        for (int64_t group = 0; group < kLanes; group += 4) {
            const Four r0 = at(group, i), r1 = at(group + 1, i), r2 = at(group + 2, i),
                       r3 = at(group + 3, i);
            const Four low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
                       high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
                       low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5),
                       high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
            const Four columns[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                                     __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                                     __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                                     __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
            for (int64_t j = 0; j < 4; ++j)
                std::memcpy(to + (i + j) * kLanes + group, &columns[j], sizeof(Four));
        }
}

NIBBLE_CLONED void encodeIntegers(const GroupCodes& g, float inverse, const float* __restrict x,
                                  int64_t count, uint8_t* __restrict codes) {
    for (int64_t i = 0; i < count; ++i) {
        float t = (x[i] - g.offset) * inverse;
        t = t < g.low ? g.low : t;
        t = t > g.high ? g.high : t;
        t = (t + kRound) - kRound;
        codes[i] = static_cast<uint8_t>(static_cast<int>(t) + g.zero);
    }
}

NIBBLE_CLONED void encodeTable(const Levels& levels, float inverse, const float* __restrict x,
                               int64_t count, uint8_t* __restrict codes) {
    float thresholds[15], values[16];
    std::copy(levels.thresholds, levels.thresholds + 15, thresholds);
    std::copy(levels.codes, levels.codes + 16, values);
    for (int64_t i = 0; i < count; ++i)
        codes[i] = static_cast<uint8_t>(static_cast<int>(pick(thresholds, values, x[i] * inverse)));
}

} // namespace

Levels::Levels(const Format& format) : isTable(format.code == CodeKind::Table) {
    if (!isTable) {
        // Eight-bit codes leave out −128, so that a scale has no preferred sign and |code| fits 7
        // bits.
        low = format.bits == 8 ? -127 : static_cast<float>(-format.zero);
        high = format.bits == 8 ? 127 : static_cast<float>((1 << format.bits) - 1 - format.zero);
        return;
    }
    const auto& exact = format.table->exact;
    std::array<int, 16> order;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return exact[static_cast<size_t>(a)] < exact[static_cast<size_t>(b)];
    });
    for (size_t i = 0; i < 16; ++i) {
        values[i] = exact[static_cast<size_t>(order[i])];
        // Of two zeros the positive one is stored.
        codes[i] =
            i > 0 && values[i] == values[i - 1] ? codes[i - 1] : static_cast<float>(order[i]);
    }
    for (size_t i = 0; i < 15; ++i)
        thresholds[i] = (values[i] + values[i + 1]) / 2;
    low = values[0];
    high = values[15];
}

bool Levels::mirrored() const {
    for (size_t i = 0; i < 16; ++i)
        if (values[i] != -values[15 - i])
            return false;
    return true;
}

void GroupBatch::assign(std::span<const float> x, std::span<const float> weights, int64_t length,
                        int parts) {
    const auto count = static_cast<int64_t>(x.size());
    m_parts = parts;
    m_groups = static_cast<int>((count + length - 1) / length);
    const int64_t steps = (length + parts - 1) / parts;
    m_steps = static_cast<int>(steps);
    m_x.resize(static_cast<size_t>(steps * kLanes));
    m_w.resize(static_cast<size_t>(steps * kLanes));
    if (count == kLanes * length && length % 4 == 0)
        putAll(x.data(), length);
    else
        for (int group = 0; group < m_groups; ++group) {
            const int64_t begin = group * length;
            putValues(x.data() + begin, std::min(length, count - begin), laneOf(group));
        }
    for (int lane = m_groups * parts; lane < kLanes; ++lane)
        for (int64_t i = 0; i < steps; ++i)
            m_x[static_cast<size_t>(i * kLanes + lane)] = 0;
    // Equal weights stay as they are from batch to batch.
    const std::array<int64_t, 3> shape{count, length, parts};
    if (!weights.empty() || shape != m_equalWeights)
        putWeights(weights, count, length);
    m_equalWeights = weights.empty() ? shape : std::array<int64_t, 3>{};
    // What pads a lane, and lanes without a group, have the weight 0.
    m_isWeighted = !weights.empty() || count != kLanes * steps;
    measureExtent();
}

/// A group in every lane.
void GroupBatch::putAll(const float* values, int64_t length) {
    std::array<float, kLanes> a, b; // two factors: one may be beyond float32
    for (size_t lane = 0; lane < kLanes; ++lane) {
        const int exponent =
            exponentAbove(largestBits(values + static_cast<int64_t>(lane) * length, length));
        m_magnitude[lane] = doublePowerOfTwo(exponent);
        m_inverse[lane] = doublePowerOfTwo(-exponent);
        a[lane] = powerOfTwo(-(exponent / 2));
        b[lane] = powerOfTwo(-(exponent - exponent / 2));
    }
    spreadAll(values, length, a, b, m_x.data());
}

void GroupBatch::putValues(const float* group, int64_t count, int firstLane) {
    const int exponent = exponentAbove(largestBits(group, count));
    float first = 0;
    spread(group, 1, exponent, &first);
    for (int part = 0; part < m_parts; ++part) {
        const int lane = firstLane + part;
        m_magnitude[static_cast<size_t>(lane)] = doublePowerOfTwo(exponent);
        m_inverse[static_cast<size_t>(lane)] = doublePowerOfTwo(-exponent);
        const int64_t at = int64_t(part) * m_steps,
                      left = std::clamp<int64_t>(count - at, 0, m_steps);
        spread(group + at, left, exponent, m_x.data() + lane);
        // What pads a lane must not widen the group's range.
        for (int64_t i = left; i < m_steps; ++i)
            m_x[static_cast<size_t>(i * kLanes + lane)] = first;
    }
}

void GroupBatch::putWeights(std::span<const float> weights, int64_t count, int64_t length) {
    std::fill(m_w.begin(), m_w.end(), 0.0f);
    m_weightMagnitude.fill(1);
    for (int group = 0; group < m_groups; ++group) {
        const int64_t begin = group * length, n = std::min(length, count - begin);
        const uint32_t heaviest = weights.empty() ? 0 : largestBits(weights.data() + begin, n);
        for (int part = 0; part < m_parts; ++part) {
            const int lane = group * m_parts + part;
            const int64_t at = int64_t(part) * m_steps,
                          left = std::clamp<int64_t>(n - at, 0, m_steps);
            float* to = m_w.data() + lane;
            if (heaviest != 0) {
                const int exponent = exponentAbove(heaviest);
                m_weightMagnitude[static_cast<size_t>(lane)] = doublePowerOfTwo(exponent);
                spread(weights.data() + begin + at, left, exponent, to);
                continue;
            }
            // Groups that do not count are still rounded well.
            if (!weights.empty())
                m_weightMagnitude[static_cast<size_t>(lane)] = std::numeric_limits<float>::min();
            for (int64_t i = 0; i < left; ++i)
                to[i * kLanes] = 1;
        }
    }
}

void GroupBatch::measureExtent() {
    measure(m_extent, m_x.data(), m_w.data(), m_steps);
    fold(m_extent.w);
    fold(m_extent.wx);
    if (m_parts == 1)
        return;
    for (int lane = 0; lane < kLanes; lane += m_parts) {
        float *low = m_extent.low.at + lane, *high = m_extent.high.at + lane;
        std::fill(low, low + m_parts, *std::min_element(low, low + m_parts));
        std::fill(high, high + m_parts, *std::max_element(high, high + m_parts));
    }
}

void GroupBatch::fold(Lanes& sums) const {
    if (m_parts == 1)
        return;
    for (int lane = 0; lane < kLanes; lane += m_parts) {
        const float sum = std::accumulate(sums.at + lane, sums.at + lane + m_parts, 0.0f);
        std::fill(sums.at + lane, sums.at + lane + m_parts, sum);
    }
}

GroupBatch::Sums GroupBatch::sums(const Levels& levels, const LaneGrid& grid,
                                  bool hasOffset) const {
    Sums out;
    sumLevels(out, m_x.data(), m_isWeighted ? m_w.data() : nullptr, m_steps, levels, grid,
              hasOffset);
    fold(out.l);
    fold(out.xl);
    fold(out.ll);
    return out;
}

Lanes GroupBatch::errors(const Levels& levels, const LaneGrid& grid, bool hasOffset) const {
    Lanes out;
    sumErrors(out, m_x.data(), m_isWeighted ? m_w.data() : nullptr, m_steps, levels, grid,
              hasOffset);
    fold(out);
    return out;
}

NIBBLE_CLONED void roundToHalves(float* __restrict values, uint32_t* __restrict bits) {
    for (int lane = 0; lane < kLanes; ++lane) {
        const uint32_t from = std::bit_cast<uint32_t>(values[lane]);
        const uint32_t sign = from & 0x80000000u, magnitude = from & 0x7fffffffu;
        const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
        // Let float addition round to multiples of the smallest half.
        const float sum = std::bit_cast<float>(magnitude) + 0.5f;
        const uint32_t subnormal = std::bit_cast<uint32_t>(sum) - 0x3f000000u;
        const bool isSmall = magnitude < 0x38800000u;
        const uint32_t half = isSmall ? subnormal : normal;
        const uint32_t back =
            isSmall ? std::bit_cast<uint32_t>(sum - 0.5f) : (normal << 13) + 0x38000000u;
        bits[lane] = half | sign >> 16;
        values[lane] = std::bit_cast<float>(back | sign);
    }
}

NIBBLE_CLONED bool areEqual(std::span<const float> weights) {
    const float first = weights.empty() ? 0 : weights[0];
    int different = 0;
    for (const float weight : weights)
        different += weight != first ? 1 : 0;
    return different == 0;
}

GroupCodes groupCodes(const Format& format, const Levels& levels, const GroupValues& values) {
    GroupCodes codes{
        .scale = static_cast<float>(levels.isTable ? values.scale : format.unit * values.scale),
        .offset = values.offset,
        .low = levels.low,
        .high = levels.high,
        .zero = values.zero};
    if (format.offset == OffsetKind::Zero) {
        const int zero = values.zero - format.zero;
        codes.low = static_cast<float>(-zero);
        codes.high = static_cast<float>((1 << format.bits) - 1 - zero);
    }
    return codes;
}

void encodeGroup(const Levels& levels, const GroupCodes& group, const float* x, int64_t count,
                 uint8_t* codes) {
    const float inverse = inverseScale(group.scale);
    if (levels.isTable)
        encodeTable(levels, inverse, x, count, codes);
    else
        encodeIntegers(group, inverse, x, count, codes);
}

} // namespace nibble
