#include "core/calibrate/magnitudes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

/// A float's exponent and the first four bits of its fraction: 16 buckets for each doubling.
constexpr int kFractionBits = 19;
constexpr uint32_t kFirst = (127 - 18) * 16; ///< of 2⁻¹⁸, which is the lower end of bucket 1

size_t bucketOf(float value, size_t buckets) {
    const uint32_t at = (std::bit_cast<uint32_t>(value) & 0x7fffffffu) >> kFractionBits;
    return at < kFirst ? 0 : std::min<size_t>(at - kFirst + 1, buckets - 1);
}

float lowerEnd(size_t bucket) {
    return std::bit_cast<float>(static_cast<uint32_t>(bucket - 1 + kFirst) << kFractionBits);
}

} // namespace

Magnitudes::Magnitudes(size_t channels) : m_channels(channels), m_counts(channels * kBuckets) {}

void Magnitudes::add(const float* row, size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c)
        ++m_counts[c * kBuckets + bucketOf(row[c], kBuckets)];
}

std::vector<float> Magnitudes::percentile(double percent, std::span<const float> most) const {
    std::vector<float> out(m_channels);
    for (size_t c = 0; c < m_channels; ++c) {
        const auto counts = std::span(m_counts).subspan(c * kBuckets, kBuckets);
        const auto all = std::accumulate(counts.begin(), counts.end(), uint64_t(0));
        const auto wanted = static_cast<uint64_t>(std::ceil(double(all) * percent / 100));
        size_t bucket = 0;
        for (uint64_t seen = counts[0]; seen < wanted && bucket + 1 < kBuckets;)
            seen += counts[++bucket];
        if (bucket + 1 == kBuckets)
            out[c] = most[c];
        else if (bucket > 0)
            out[c] = std::min(most[c], (lowerEnd(bucket) + lowerEnd(bucket + 1)) / 2);
    }
    return out;
}

} // namespace nibble
