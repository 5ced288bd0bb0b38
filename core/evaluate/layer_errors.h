#pragma once

#include "core/evaluate/quality.h"

#include <vector>

namespace nibble {

/// Keeps what the base's layers gave in one forward call, for the variant's call on the same rows.
class LayerRecorder final : public Tap {
public:
    bool wants(const TapSite& site) const override {
        return site.what == TapSite::What::LayerOutput;
    }
    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override;

    std::vector<std::vector<float>> layers; ///< [layer][rows · width]
};

/// Compares the variant's layer outputs with the recorded ones; sums only, nothing grows with the
/// text.
class LayerComparer final : public Tap {
public:
    explicit LayerComparer(const LayerRecorder& base) : m_base(base) {}
    bool wants(const TapSite& site) const override {
        return site.what == TapSite::What::LayerOutput;
    }
    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override;
    std::vector<LayerError> errors() const;

private:
    struct Sums {
        double base = 0, variant = 0, product = 0, difference = 0;
    };
    const LayerRecorder& m_base;
    std::vector<Sums> m_sums;
};

} // namespace nibble
