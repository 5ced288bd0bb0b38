#pragma once

#include "core/quant/calibration.h"
#include "core/runtime/runner.h"

#include <map>
#include <memory>

namespace nibble {

/// What the products of one layer (or the head) saw, by inputKey().
struct LayerInputs {
    std::map<TensorKey, InputStatistics> statistics;
    std::map<TensorKey, std::shared_ptr<const Moments>> moments; ///< empty unless asked for
};

/// Adds up what a layer's products see.
class Collector final : public Tap {
public:
    /// Of `tokens` rows some `sampleRows` are kept as they are.
    Collector(int64_t tokens, int32_t sampleRows, bool moments);
    ~Collector() override;

    bool wants(const TapSite& site) const override;
    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override;

    /// Moves the results out. Error{BadInput} for values that are no numbers.
    LayerInputs finish();

private:
    struct Site;
    int64_t m_stride;
    bool m_moments;
    std::map<TensorKey, Site> m_sites;
};

} // namespace nibble
