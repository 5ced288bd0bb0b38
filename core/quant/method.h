#pragma once

#include "core/base/progress.h"
#include "core/quant/calibration.h"
#include "core/runtime/options.h"
#include "core/tensor/tensor.h"

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace nibble {

/// What a method sees of one matrix.
struct QuantizeInput {
    std::string name;
    int64_t rows = 0, cols = 0;
    int64_t firstRow = 0; ///< what errors call row 0, where this is a part of a matrix
    /// Gives rows [begin, end) as float32; called from several threads.
    std::function<void(int64_t begin, int64_t end, float* out)> values;
    /// Mean square of each input channel from calibration; empty = all channels count the same.
    std::span<const float> importance = {};
    /// Largest magnitude of each input channel from calibration; empty = not known.
    std::span<const float> inputMax = {};
    /// What llm_int8 calls an outlier.
    float outlierThreshold = kOutlierThreshold;
    /// For methods that need them (Needs::Moments), else null.
    const Moments* moments = nullptr;
    /// Method::feedback of these moments, where the caller has it from another matrix.
    const FeedbackFactor* feedback = nullptr;
};

/// What of the calibration a method cannot do without.
enum class Needs : uint8_t { Nothing, Statistics, Moments };

/// Products that share an input whose channels are to be scaled: W · diag(s) takes x / s, and what
/// made x gives x / s instead.
struct FoldInput {
    struct Consumer {
        const Tensor* base = nullptr;
        const Format* format = nullptr;
    };
    std::vector<Consumer> consumers;
    const InputStatistics* statistics = nullptr;
    const Moments* moments = nullptr;
    ActivationFormat activations{};
};

/// How codes are chosen, independent of formats: one row in methods() and one file each.
struct Method {
    const char* name;
    const char* title;
    /// Why the method cannot make this format, or null when it can.
    const char* (*refuses)(const Format& format);
    Tensor (*quantize)(const QuantizeInput& input, const Format& format, const Progress& progress);
    Needs needs = Needs::Nothing;
    /// Scales s of the input's channels that make quantizing easier, or null for methods that leave
    /// inputs alone. The tensor is then quantized as W · diag(s).
    std::vector<float> (*inputScales)(const FoldInput& input, const Progress& progress) = nullptr;
    /// What the method derives from an input's moments, and matrices that share the input share; or
    /// null.
    FeedbackFactor (*feedback)(const Moments& moments) = nullptr;
    /// How many outlier columns, which no file of other engines holds, it keeps beside the codes;
    /// without the inputs' largest magnitudes the most that it may keep. Null for methods that keep
    /// none.
    int64_t (*outlierCount)(std::span<const float> inputMax, int64_t cols,
                            float threshold) = nullptr;
    /// Whether each row is made without looking at the others, so that parts of a matrix may be
    /// made one by one.
    bool rowByRow = false;
    bool keepsOutliers() const { return outlierCount != nullptr; }
};
std::span<const Method> methods();
/// Error{Usage} that lists the known names.
const Method& getMethod(std::string_view name);

/// Float formats by conversion, quantized ones by the method; Error{Usage} when it refuses.
Tensor quantize(const QuantizeInput& input, const Format& format, const Method& method,
                const Progress& progress = {});
/// Importance scaled so that its largest is 1, or ones. It is the weight as it stands: times
/// √(σ² + x²), as k-quants are made elsewhere, the output of a matrix lost 1 to 5 % more (relative
/// output error of q4_k, q2_k, q6_k, iq4_xs and q4_0 on normal and heavy-tailed weights, with
/// inputs of unequal channels that were independent or correlated). Error{BadInput} for a
/// calibration that does not belong to the tensor.
std::vector<float> channelWeights(const QuantizeInput& input);
/// Error{BadInput} that names the tensor, row and column of a value that is no number.
void requireFinite(const QuantizeInput& input, int64_t row, std::span<const float> values);
/// A tensor re-quantized from any other.
Tensor quantize(const Tensor& base, const Format& format, const Method& method,
                std::span<const float> importance = {}, const Progress& progress = {});

} // namespace nibble
