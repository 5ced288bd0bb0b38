#include "core/calibrate/collector.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/calibrate/magnitudes.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

void requireFinite(TensorKey key, const InputStatistics& statistics) {
    for (const float value : statistics.meanSquare)
        if (!std::isfinite(value))
            fail(ErrorKind::BadInput,
                 "In layer {} the base model computes values that are no numbers; its weights are "
                 "damaged: download it again.",
                 key.layer);
}

} // namespace

struct Collector::Site {
    Site(int32_t width, bool withMoments)
        : squares(static_cast<size_t>(width)), magnitudes(static_cast<size_t>(width)),
          most(static_cast<size_t>(width)), counts(static_cast<size_t>(width)),
          moments(withMoments ? width : 0) {}

    /// Channels [begin, end).
    void add(const float* values, int32_t rows, size_t begin, size_t end) {
        for (int32_t row = 0; row < rows; ++row) {
            const float* x = values + static_cast<size_t>(row) * most.size();
            for (size_t c = begin; c < end; ++c) {
                const float magnitude = std::abs(x[c]);
                squares[c] += double(x[c]) * double(x[c]);
                magnitudes[c] += double(magnitude);
                most[c] = std::max(most[c], magnitude);
            }
            counts.add(x, begin, end);
        }
    }

    int64_t tokens = 0;
    std::vector<double> squares, magnitudes;
    std::vector<float> most, samples;
    Magnitudes counts;
    MomentSum moments;
};

Collector::Collector(int64_t tokens, int32_t sampleRows, bool moments)
    : m_stride(std::max<int64_t>(1, tokens / std::max(1, sampleRows))), m_moments(moments) {}
Collector::~Collector() = default;

bool Collector::wants(const TapSite& site) const {
    return site.what == TapSite::What::ProductInput;
}

void Collector::values(const TapSite& site, int32_t rows, int32_t width, const float* values) {
    const auto [at, isNew] = m_sites.try_emplace(inputKey(site.key), width, m_moments);
    Site& sums = at->second;
    const auto channels = static_cast<size_t>(width);
    // A few channels of all rows, so that their counts stay in the nearest cache.
    constexpr size_t kTogether = 16;
    parallelFor((channels + kTogether - 1) / kTogether, 4, [&](size_t begin, size_t end) {
        for (size_t block = begin; block < end; ++block)
            sums.add(values, rows, block * kTogether, std::min(channels, (block + 1) * kTogether));
    });
    for (int32_t row = 0; row < rows; ++row, ++sums.tokens) {
        const float* x = values + static_cast<size_t>(row) * channels;
        // An odd step over the row's place in its window, so that all places are met.
        if (sums.tokens % m_stride == sums.tokens / m_stride * 7 % m_stride)
            sums.samples.insert(sums.samples.end(), x, x + channels);
    }
    if (m_moments)
        sums.moments.add(values, rows);
}

LayerInputs Collector::finish() {
    LayerInputs out;
    for (auto& [key, site] : m_sites) {
        InputStatistics& statistics = out.statistics[key];
        statistics.tokens = site.tokens;
        const auto mean = [&](double sum) {
            return static_cast<float>(sum / static_cast<double>(site.tokens));
        };
        std::transform(site.squares.begin(), site.squares.end(),
                       std::back_inserter(statistics.meanSquare), mean);
        std::transform(site.magnitudes.begin(), site.magnitudes.end(),
                       std::back_inserter(statistics.meanAbs), mean);
        for (const double percent : kPercentiles) {
            const std::vector<float> values = site.counts.percentile(percent, site.most);
            statistics.percentiles.insert(statistics.percentiles.end(), values.begin(),
                                          values.end());
        }
        statistics.absMax = std::move(site.most);
        statistics.samples = std::move(site.samples);
        requireFinite(key, statistics);
        if (m_moments)
            out.moments[key] = std::make_shared<const Moments>(site.moments.finish());
    }
    m_sites.clear();
    return out;
}

} // namespace nibble
