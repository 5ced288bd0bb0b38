#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

/// Counts each channel's |x| in buckets, 16 for each doubling, so that any percentile is known
/// without keeping the values: 2 KiB a channel, however long the text.
///
/// A percentile is off by at most 1/32 of itself (half a bucket) between 2⁻¹⁸ and some 2¹³; below,
/// it is given as 0, and above, as the channel's maximum.
class Magnitudes {
public:
    explicit Magnitudes(size_t channels);

    /// Channels [begin, end) of a row; other channels may be added to at the same time.
    void add(const float* row, size_t begin, size_t end);
    /// By channel: the least value that at least so many percent of the channel's are no larger
    /// than. `most` is each channel's maximum.
    std::vector<float> percentile(double percent, std::span<const float> most) const;

private:
    static constexpr size_t kBuckets = 512;
    size_t m_channels;
    std::vector<uint32_t> m_counts; ///< [channel][bucket]
};

} // namespace nibble
