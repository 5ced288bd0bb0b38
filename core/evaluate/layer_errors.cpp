#include "core/evaluate/layer_errors.h"

#include <cmath>
#include <limits>

namespace nibble {

void LayerRecorder::values(const TapSite& site, int32_t rows, int32_t width, const float* values) {
    const auto layer = static_cast<size_t>(site.key.layer);
    if (layers.size() <= layer)
        layers.resize(layer + 1);
    layers[layer].assign(values, values + static_cast<size_t>(rows) * static_cast<size_t>(width));
}

void LayerComparer::values(const TapSite& site, int32_t rows, int32_t width, const float* values) {
    const auto layer = static_cast<size_t>(site.key.layer);
    if (m_sums.size() <= layer)
        m_sums.resize(layer + 1);
    const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(width);
    if (m_base.layers.size() <= layer || m_base.layers[layer].size() != count)
        fail(ErrorKind::Internal, "Layer {} of the base and the variant have different shapes.",
             layer);
    const float* base = m_base.layers[layer].data();
    Sums& sums = m_sums[layer];
    for (size_t i = 0; i < count; ++i) {
        const double x = static_cast<double>(base[i]), y = static_cast<double>(values[i]);
        sums.base += x * x;
        sums.variant += y * y;
        sums.product += x * y;
        sums.difference += (x - y) * (x - y);
    }
}

std::vector<LayerError> LayerComparer::errors() const {
    std::vector<LayerError> out;
    for (size_t layer = 0; layer < m_sums.size(); ++layer) {
        const Sums& s = m_sums[layer];
        LayerError error;
        error.layer = static_cast<int32_t>(layer);
        error.relativeError = s.base > 0 ? std::sqrt(s.difference / s.base) : 0;
        error.sqnr = s.difference > 0 ? 10 * std::log10(s.base / s.difference)
                                      : std::numeric_limits<double>::infinity();
        error.cosine = s.base > 0 && s.variant > 0 ? s.product / std::sqrt(s.base * s.variant) : 1;
        out.push_back(error);
    }
    return out;
}

} // namespace nibble
