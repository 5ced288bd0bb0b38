#pragma once

#include "core/base/progress.h"
#include "core/calibrate/text.h"
#include "core/quant/recipe.h"
#include "core/runtime/runner.h"

#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace nibble {

struct EvaluateOptions {
    int32_t context = 512; ///< window length
    int32_t chunks = 0;    ///< windows to score; 0 = all that the text has
    /// Where not all are scored: from all over the text, whose beginning may be of one kind,
    /// instead of the first ones, as llama-perplexity takes them.
    bool spread = false;
    bool layers = false; ///< also per-layer error through the tap
};

/// Error of one layer's output, or one product's input, in the variant's own pass against the
/// base's.
struct LayerError {
    int32_t layer = 0;
    double relativeError = 0; ///< ‖x − x̂‖ / ‖x‖
    double sqnr = 0;          ///< dB
    double cosine = 0;
};
/// Error of one quantized matrix by itself.
struct TensorError {
    TensorKey key;
    std::string format;
    double relativeError = 0, sqnr = 0, cosine = 0;
    double bitsPerWeight = 0;
    uint64_t bytes = 0;
    int64_t beyondSixSigma = 0; ///< base values further from the mean than 6 standard deviations
};

/// What a measurement found. Conventions of llama-perplexity: windows of `context` tokens, BOS in
/// front of each when the model wants it, the second half scored. Every number carries its sample
/// count and error.
struct QualityReport {
    double ppl = 0, pplError = 0;
    bool hasReference = false; ///< the fields below are measured
    double kldMean = 0, kldError = 0, kldMedian = 0, kldP99 = 0, kldMax = 0;
    double sameTop = 0, sameTopError = 0; ///< fractions
    double basePpl = 0, pplRatio = 1, pplRatioError = 0;
    int64_t tokens = 0; ///< scored
    int32_t windows = 0, context = 0;
    uint64_t bytes = 0;
    double bitsPerWeight = 0;
    std::vector<LayerError> layers;
    std::string text, textHash, device, level, recipeHash;
    double seconds = 0;
    std::vector<float> klds; ///< of every scored token, in the text's order
};

/// How much more `a` loses than `b` on the tokens that both were measured on, and its standard
/// error: by tokens, or by windows where these differ by more than their tokens explain. What makes
/// a token hard is in both and drops out, so that this tells apart what each one's own error
/// cannot. Nothing where they saw different tokens.
struct PairedDifference {
    double kld = 0, error = 0;
    /// A difference counts beyond two standard errors.
    bool certain() const { return std::abs(kld) > 2 * error; }
};
std::optional<PairedDifference> pairedDifference(const QualityReport& a, const QualityReport& b);

/// Perplexity of a runner; with `base` (another runner over the same vocabulary) also KLD and
/// agreement, both run in lockstep so that no logits are stored. Called back with partial reports
/// as windows land.
QualityReport measureQuality(Runner& runner, Runner* base, const EvaluationText& text,
                             const EvaluateOptions& options, const Progress& progress = {},
                             const std::function<void(const QualityReport&)>& onPartial = {});

/// The base's scored logits of the first windows, as many as `limit` bytes hold, so that several
/// variants can be measured on the same tokens without running the base each time.
class BaseLogits {
public:
    static constexpr uint64_t kLimit = 256ull << 20;
    explicit BaseLogits(uint64_t limit = kLimit) : m_left(limit) {}

    /// A window's logits, or null.
    const std::vector<float>* find(size_t window) const {
        return window < m_windows.size() ? &m_windows[window] : nullptr;
    }
    /// Keeps the next window's; nothing when they do not fit any more.
    void keep(size_t window, const std::vector<float>& logits);

private:
    uint64_t m_left;
    std::vector<std::vector<float>> m_windows;
};

/// The same on tokens, for a model whose tokenizer lies elsewhere. `kept` is filled by the first
/// call and read by those that follow with the same base, tokens and options.
QualityReport measureQuality(Runner& runner, Runner* base, const EvaluationTokens& tokens,
                             const EvaluateOptions& options, const Progress& progress = {},
                             const std::function<void(const QualityReport&)>& onPartial = {},
                             BaseLogits* kept = nullptr);

/// Error of matrices of a recipe (all of them when `keys` is empty) against the base's values,
/// tensor by tensor, without a forward pass. Scales that a method moves between tensors are taken
/// out again before comparing.
std::vector<TensorError> measureTensors(const Model& model, const Recipe& recipe,
                                        std::vector<TensorKey> keys = {},
                                        const Progress& progress = {},
                                        const std::function<void(const TensorError&)>& onEach = {},
                                        std::shared_ptr<const Calibration> calibration = nullptr);
/// Error of one tensor's values against another's of the same shape.
TensorError compareTensors(TensorKey key, const Tensor& base, const Tensor& variant);

} // namespace nibble
