#pragma once

#include "core/quant/method.h"

#include <functional>

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
    /// The same where the inputs x / s are rounded as well: to int8 with one scale a token, or one
    /// for all where FoldInput::activations is Int8Static.
    double productError(std::span<const float> scales) const;
    /// Of exact weights with inputs x / s in int8 steps of this size, clamped to ±127.
    double inputError(std::span<const float> scales, float step) const;
    /// Largest magnitude that an input x / s had in the calibration.
    float inputMax(std::span<const float> scales) const;

private:
    std::vector<float> quantized(std::span<const float> scales) const;
    double sampledError(std::span<const float> rows,
                        const std::function<void(const float*, float*)>& round) const;
    double errorOf(std::span<const float> differences) const;

    const FoldInput& m_input;
    int64_t m_channels = 0;
    size_t m_count = 0;
    std::vector<float> m_rows; ///< [count][channels]
    std::vector<const Format*> m_formats;
    std::vector<float> m_weightMax, m_relativeWeight;
    double m_power = 0;
};

/// The step of the int8 codes of an input x / s: of some, down from the one that clamps nothing on
/// the calibration text, the one with the least error on its sampled tokens.
float staticStep(const ScaleTrial& trial, std::span<const float> scales);

/// Scales whose product of least and greatest is 1, none below 1e-4 of that middle.
void centre(std::vector<float>& scales);

} // namespace nibble
