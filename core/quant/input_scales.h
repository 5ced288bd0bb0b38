#pragma once

#include "core/quant/method.h"

namespace nibble {

/// A few rows of each consumer of an input, with which scales of its channels are tried: a search
/// over all rows would take as long as quantizing many times over.
class ScaleTrial {
public:
    /// Takes up to `rows` rows in all, evenly.
    ScaleTrial(const FoldInput& input, int64_t rows);

    int64_t channels() const { return m_channels; }
    /// Largest magnitude of each channel over the sampled rows.
    const std::vector<float>& weightMax() const { return m_weightMax; }
    /// Mean of |w| / (largest |w| of its group) of each channel.
    const std::vector<float>& relativeWeight() const { return m_relativeWeight; }
    /// Mean square error of the outputs when W · diag(s) is rounded, over the outputs' mean square.
    double weightError(std::span<const float> scales) const;
    /// The same where the inputs x / s are rounded as well, to int8 with one scale a token.
    double productError(std::span<const float> scales) const;

private:
    std::vector<float> quantized(std::span<const float> scales) const;
    double errorOf(std::span<const float> differences) const;

    const FoldInput& m_input;
    int64_t m_channels = 0;
    size_t m_count = 0;
    std::vector<float> m_rows; ///< [count][channels]
    std::vector<const Format*> m_formats;
    std::vector<float> m_weightMax, m_relativeWeight;
    double m_power = 0;
};

/// Scales whose product of least and greatest is 1, none below 1e-4 of that middle.
void centre(std::vector<float>& scales);

} // namespace nibble
