#include "core/quant/output_error.h"

#include "core/base/half.h"
#include "core/base/parallel.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

/// x as its int8 form gives it back: one scale for each block of values, or for all.
void roundActivations(std::span<float> x, const TensorChoice& choice, float inputScale) {
    const ActivationFormat format = choice.activations;
    const auto block = static_cast<size_t>(activationBlock(format));
    const size_t length = block ? block : x.size();
    const auto counts = [&](float value) {
        return format != ActivationFormat::Int8Outliers ||
               std::abs(value) < choice.outlierThreshold;
    };
    for (size_t at = 0; at < x.size(); at += length) {
        const auto part = x.subspan(at, std::min(length, x.size() - at));
        float most = 0;
        for (const float value : part)
            if (counts(value))
                most = std::max(most, std::abs(value));
        float step = most / 127;
        if (block)
            step = halfToFloat(floatToHalf(step));
        if (format == ActivationFormat::Int8Static)
            step = inputScale;
        for (float& value : part)
            if (counts(value))
                value =
                    step > 0 ? std::clamp(std::round(value / step), -127.0f, 127.0f) * step : 0.0f;
    }
}

/// Σ over rows of E(ŵ · (x̂ − x))², over the inputs that the calibration kept.
double activationError(const Quantizer::RowSample& sample, const InputStatistics& statistics,
                       const TensorChoice& choice) {
    const auto cols = static_cast<size_t>(sample.cols);
    const auto tokens = static_cast<size_t>(statistics.sampleRows());
    const size_t rows = sample.made.size() / cols;
    std::vector<double> errors(tokens);
    parallelFor(tokens, 2, [&](size_t begin, size_t end) {
        std::vector<float> x(cols), difference(cols);
        for (size_t t = begin; t < end; ++t) {
            const float* input = statistics.samples.data() + t * cols;
            for (size_t c = 0; c < cols; ++c)
                x[c] = sample.inputScales.empty() ? input[c] : input[c] / sample.inputScales[c];
            roundActivations(x, choice, sample.inputScale);
            for (size_t c = 0; c < cols; ++c)
                difference[c] =
                    (sample.inputScales.empty() ? x[c] : x[c] * sample.inputScales[c]) - input[c];
            for (size_t r = 0; r < rows; ++r) {
                double sum = 0;
                for (size_t c = 0; c < cols; ++c)
                    sum += double(sample.made[r * cols + c]) * double(difference[c]);
                errors[t] += sum * sum;
            }
        }
    });
    return tokens == 0
               ? 0
               : std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(tokens);
}

/// Σ over rows of E(e · x)².
double power(std::span<const float> rows, const Moments* moments,
             const InputStatistics* statistics) {
    if (moments)
        return outputError(*moments, rows);
    double sum = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
        const double weight =
            statistics ? double(statistics->meanSquare[i % statistics->meanSquare.size()]) : 1;
        sum += weight * double(rows[i]) * double(rows[i]);
    }
    return sum;
}

} // namespace

OutputError outputError(Quantizer& quantizer, const Model& model, const Recipe& recipe,
                        const Calibration& calibration, TensorKey key, int64_t rows,
                        const Progress& progress) {
    const int64_t all = model.get(key).rows();
    std::vector<int64_t> chosen(static_cast<size_t>(std::min(rows, all)));
    for (size_t i = 0; i < chosen.size(); ++i)
        chosen[i] = static_cast<int64_t>(i) * all / static_cast<int64_t>(chosen.size());
    const Quantizer::RowSample sample = quantizer.sample(key, chosen, progress);
    std::vector<float> difference(sample.base.size());
    for (size_t i = 0; i < difference.size(); ++i)
        difference[i] = sample.made[i] - sample.base[i];
    const auto relative = [](double error, double whole) {
        return whole > 0 ? error / whole : error;
    };

    OutputError found;
    if (key.role == Role::TokenEmbedding)
        found.lookup =
            relative(power(difference, nullptr, nullptr), power(sample.base, nullptr, nullptr));
    if (key.role == Role::TokenEmbedding && model.headKey() != key)
        return found;
    const InputStatistics& statistics = calibration.get(key);
    std::shared_ptr<const Moments> moments;
    if (calibration.moments)
        moments = calibration.moments(key, progress);
    double error = power(difference, moments.get(), &statistics);
    const TensorChoice choice = recipe.choose(model, key);
    const bool rounds =
        choice.activations != ActivationFormat::Float && choice.format && !choice.format->isFloat();
    if (rounds)
        error += activationError(sample, statistics, choice);
    found.product = relative(error, power(sample.base, moments.get(), &statistics));
    return found;
}

} // namespace nibble
