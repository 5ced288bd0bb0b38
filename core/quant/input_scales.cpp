#include "core/quant/input_scales.h"

#include "core/base/parallel.h"
#include "core/quant/row_fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

/// Inputs x / s in steps, clamped to ±127, and times s again.
void roundTo(const float* x, std::span<const float> scales, float step, float* out) {
    for (size_t c = 0; c < scales.size(); ++c)
        out[c] = step > 0 ? std::clamp(std::round(x[c] / scales[c] / step), -127.0f, 127.0f) *
                                step * scales[c]
                          : 0.0f;
}

} // namespace

ScaleTrial::ScaleTrial(const FoldInput& input, int64_t rows) : m_input(input) {
    m_channels = input.statistics->channels();
    const auto channels = static_cast<size_t>(m_channels);
    m_weightMax.assign(channels, 0);
    m_relativeWeight.assign(channels, 0);
    const int64_t each = std::max<int64_t>(1, rows / static_cast<int64_t>(input.consumers.size()));
    for (const FoldInput::Consumer& consumer : input.consumers) {
        const int64_t count = std::min(each, consumer.base->rows);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t row = i * consumer.base->rows / count;
            m_rows.resize(++m_count * channels);
            const std::span<float> values = std::span(m_rows).last(channels);
            decodeRows(*consumer.base, row, row + 1, values.data());
            m_formats.push_back(consumer.format);
            const auto group =
                static_cast<size_t>(std::min(consumer.format->groupLength(m_channels), m_channels));
            for (size_t at = 0; at < channels; at += group) {
                const size_t end = std::min(channels, at + group);
                float most = 0;
                for (size_t c = at; c < end; ++c)
                    most = std::max(most, std::abs(values[c]));
                for (size_t c = at; c < end; ++c) {
                    m_weightMax[c] = std::max(m_weightMax[c], std::abs(values[c]));
                    if (most > 0)
                        m_relativeWeight[c] += std::abs(values[c]) / most;
                }
            }
        }
    }
    m_power = errorOf(m_rows);
    for (float& weight : m_relativeWeight)
        weight /= static_cast<float>(m_count);
}

double ScaleTrial::errorOf(std::span<const float> differences) const {
    if (m_input.moments)
        return outputError(*m_input.moments, differences);
    double sum = 0; // channels taken as independent
    const auto channels = static_cast<size_t>(m_channels);
    for (size_t i = 0; i < differences.size(); ++i)
        sum += double(m_input.statistics->meanSquare[i % channels]) * double(differences[i]) *
               double(differences[i]);
    return sum;
}

/// The sampled rows as they come back, in the base's scale.
std::vector<float> ScaleTrial::quantized(std::span<const float> scales) const {
    const auto channels = static_cast<size_t>(m_channels);
    std::vector<float> weights(channels);
    float most = 0;
    for (size_t c = 0; c < channels; ++c) {
        weights[c] = m_input.statistics->meanSquare[c] / (scales[c] * scales[c]);
        most = std::max(most, weights[c]);
    }
    for (float& weight : weights)
        weight = most > 0 ? weight / most : 1;
    std::vector<float> out(m_rows.size());
    parallelFor(m_count, 4, [&](size_t begin, size_t end) {
        std::vector<float> row(channels);
        std::vector<uint8_t> codes(channels);
        for (size_t i = begin; i < end; ++i) {
            for (size_t c = 0; c < channels; ++c)
                row[c] = m_rows[i * channels + c] * scales[c];
            const RowFit fit = fitRow(*m_formats[i], row, weights, codes.data());
            TensorBuilder builder("trial", *m_formats[i], 1, m_channels);
            storeRow(builder, 0, fit, codes.data());
            float* decoded = out.data() + i * channels;
            decodeRows(builder.finish(), 0, 1, decoded);
            for (size_t c = 0; c < channels; ++c)
                decoded[c] /= scales[c];
        }
    });
    return out;
}

double ScaleTrial::weightError(std::span<const float> scales) const {
    std::vector<float> difference = quantized(scales);
    for (size_t i = 0; i < difference.size(); ++i)
        difference[i] -= m_rows[i];
    const double error = errorOf(difference);
    return m_power > 0 ? error / m_power : error;
}

/// Error of the outputs on the sampled tokens over the outputs' mean square, where the weights are
/// `rows` and `round` makes of a token's inputs what the product sees.
double ScaleTrial::sampledError(std::span<const float> rows,
                                const std::function<void(const float*, float*)>& round) const {
    const auto channels = static_cast<size_t>(m_channels);
    const auto tokens = static_cast<size_t>(m_input.statistics->sampleRows());
    const std::vector<float>& samples = m_input.statistics->samples;
    std::vector<double> errors(tokens), powers(tokens);
    parallelFor(tokens, 2, [&](size_t begin, size_t end) {
        std::vector<float> rounded(channels);
        for (size_t t = begin; t < end; ++t) {
            const float* x = samples.data() + t * channels;
            round(x, rounded.data());
            for (size_t i = 0; i < m_count; ++i) {
                double exact = 0, got = 0;
                for (size_t c = 0; c < channels; ++c) {
                    exact += double(m_rows[i * channels + c]) * double(x[c]);
                    got += double(rows[i * channels + c]) * double(rounded[c]);
                }
                errors[t] += (exact - got) * (exact - got);
                powers[t] += exact * exact;
            }
        }
    });
    const double power = std::accumulate(powers.begin(), powers.end(), 0.0);
    const double error = std::accumulate(errors.begin(), errors.end(), 0.0);
    return power > 0 ? error / power : error;
}

double ScaleTrial::productError(std::span<const float> scales) const {
    const bool isStatic = m_input.activations == ActivationFormat::Int8Static;
    const float most = isStatic ? inputMax(scales) : 0;
    return sampledError(quantized(scales), [&](const float* x, float* rounded) {
        float largest = most;
        for (size_t c = 0; c < scales.size() && !isStatic; ++c)
            largest = std::max(largest, std::abs(x[c] / scales[c]));
        roundTo(x, scales, largest / 127, rounded);
    });
}

double ScaleTrial::inputError(std::span<const float> scales, float step) const {
    return sampledError(m_rows,
                        [&](const float* x, float* rounded) { roundTo(x, scales, step, rounded); });
}

float ScaleTrial::inputMax(std::span<const float> scales) const {
    float most = 0;
    for (size_t c = 0; c < scales.size(); ++c)
        most = std::max(most, m_input.statistics->absMax[c] / scales[c]);
    return most;
}

float staticStep(const ScaleTrial& trial, std::span<const float> scales) {
    constexpr int kParts = 10, kFewest = 2;
    const float whole = trial.inputMax(scales) / 127;
    if (!(whole > 0))
        return 1; // an input that is always 0
    float best = whole;
    double least = HUGE_VAL;
    for (int parts = kParts; parts >= kFewest; --parts) {
        const float step = whole * static_cast<float>(parts) / kParts;
        if (const double error = trial.inputError(scales, step); error < least) {
            least = error;
            best = step;
        }
    }
    return best;
}

void centre(std::vector<float>& scales) {
    float least = HUGE_VALF, most = 0;
    for (float& scale : scales) {
        scale = std::isfinite(scale) ? std::max(scale, 1e-4f) : 1.0f;
        least = std::min(least, scale);
        most = std::max(most, scale);
    }
    const float middle = std::sqrt(least * most);
    for (float& scale : scales)
        scale = std::max(scale / middle, 1e-4f);
}

} // namespace nibble
