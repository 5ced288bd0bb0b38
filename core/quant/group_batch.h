#pragma once

#include "core/tensor/planes.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

/// For plain loops that compilers turn into vector code: where the loader can choose, there are
/// copies for AVX-512 and AVX2 (without fused operations, so that every machine finds the same
/// codes: the files that use it are compiled with -ffp-contract=off).
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                 \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define NIBBLE_CLONED [[gnu::target_clones("arch=x86-64-v4", "avx2", "default")]]
#else
#define NIBBLE_CLONED
#endif

/// Sixteen groups side by side, so that one pass over their values judges one scale for each of
/// them: what the searches for scales are written with.
namespace nibble {

constexpr int kLanes = 16;
/// One number for each lane of a batch.
struct alignas(64) Lanes {
    float at[kLanes] = {};
    float& operator[](int lane) { return at[lane]; }
    float operator[](int lane) const { return at[lane]; }
};

/// What the codes of a format stand for before scale and offset. Integers count from the zero
/// point; a table's values are sorted.
struct Levels {
    bool isTable = false;
    float values[16] = {}, thresholds[15] = {}; ///< of a table: between neighbours, halfway
    float codes[16] = {};                       ///< of a table: what is stored for values[i]
    float low = 0, high = 0;                    ///< outermost, without a group's own zero point

    explicit Levels(const Format& format);
    bool isSymmetric() const { return low == -high && (!isTable || mirrored()); }

private:
    bool mirrored() const;
};

/// x ≈ scale · level + offset with low ≤ level ≤ high, in each lane.
struct LaneGrid {
    Lanes scale, offset, low, high;
};

/// Values of up to sixteen groups, each scaled by a power of two to magnitudes below 1 (weights
/// likewise), so that no sum overflows or vanishes in float32. A group takes `parts` lanes, all of
/// which hold the numbers of the whole group.
class GroupBatch {
public:
    /// Groups of `length` values from the start of x, the last of which may be short. No weights:
    /// all the same.
    void assign(std::span<const float> x, std::span<const float> weights, int64_t length,
                int parts);

    int groups() const { return m_groups; }
    int laneOf(int group) const { return group * m_parts; }
    /// What a lane's values and weights were divided by.
    double magnitude(int lane) const { return m_magnitude[static_cast<size_t>(lane)]; }
    double inverseMagnitude(int lane) const { return m_inverse[static_cast<size_t>(lane)]; }
    double weightMagnitude(int lane) const { return m_weightMagnitude[static_cast<size_t>(lane)]; }

    /// Of each lane: extreme values, Σw and Σw·x.
    struct Extent {
        Lanes low, high, w, wx;
        float farthest(int lane) const { return -low[lane] > high[lane] ? low[lane] : high[lane]; }
    };
    const Extent& extent() const { return m_extent; }

    /// Σw·l, Σw·x·l and Σw·l² over the levels nearest to the values; l only where there are
    /// offsets.
    struct Sums {
        Lanes l, xl, ll;
    };
    Sums sums(const Levels& levels, const LaneGrid& grid, bool hasOffset) const;
    /// Σw·(x − nearest)².
    Lanes errors(const Levels& levels, const LaneGrid& grid, bool hasOffset) const;

private:
    void putAll(const float* values, int64_t length);
    void putValues(const float* group, int64_t count, int firstLane);
    void putWeights(std::span<const float> weights, int64_t count, int64_t length);
    void measureExtent();
    void fold(Lanes& sums) const;

    int m_groups = 0, m_parts = 1, m_steps = 0;
    bool m_isWeighted = true;    ///< else all weights are 1
    std::vector<float> m_x, m_w; ///< [step][lane]
    std::array<double, kLanes> m_magnitude = {}, m_inverse = {}, m_weightMagnitude = {};
    std::array<int64_t, 3> m_equalWeights = {}; ///< count, length, parts of m_w if all are the same
    Extent m_extent;
};

/// The nearest halves of kLanes numbers within their range, and their bits; as floatToHalf.
void roundToHalves(float* values, uint32_t* bits);

/// Whether all weights are the same.
bool areEqual(std::span<const float> weights);

/// One group as codes see it: value = scale · (code − zero) + offset with low ≤ code − zero ≤ high,
/// or scale · table[code].
struct GroupCodes {
    float scale = 0, offset = 0, low = 0, high = 0;
    int zero = 0;
};
GroupCodes groupCodes(const Format& format, const Levels& levels, const GroupValues& values);
/// The codes nearest to count values of one group, as TensorBuilder takes them.
void encodeGroup(const Levels& levels, const GroupCodes& group, const float* x, int64_t count,
                 uint8_t* codes);

/// 1 / scale, or 0 where that is beyond float32: such a scale has no other level than 0 in reach.
inline float inverseScale(float scale) {
    const float inverse = 1 / scale;
    return std::abs(inverse) <= std::numeric_limits<float>::max() ? inverse : 0;
}

} // namespace nibble
