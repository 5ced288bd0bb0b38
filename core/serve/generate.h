#pragma once

#include "core/base/progress.h"
#include "core/base/random.h"
#include "core/runtime/runner.h"

#include <functional>
#include <string>
#include <vector>

namespace nibble {

struct SamplerOptions {
    double temperature = 0.7; ///< 0 = greedy; ties go to the lowest id
    int32_t topK = 40;        ///< 0 = off
    double topP = 0.95;
    double minP = 0.05;
    double repeatPenalty = 1.0; ///< 1 = off; over the last 64 tokens
    uint64_t seed = 0;          ///< 0 = a fresh one, reported in the result
};

/// A random seed, never 0, short enough to be read out and typed again.
uint64_t freshSeed();

/// Picks one token from logits [vocabulary]. Deterministic for a seed.
class Sampler {
public:
    explicit Sampler(const SamplerOptions& options);
    /// `recent`: the tokens so far. In turn: repeat penalty, top-k, top-p, min-p, temperature.
    /// Error{BadInput} when no logit is finite.
    TokenId pick(std::span<const float> logits, std::span<const TokenId> recent);

private:
    SamplerOptions m_options;
    Random m_random;
    std::vector<std::pair<float, TokenId>> m_candidates;
};

struct GenerateOptions {
    SamplerOptions sampler;
    int32_t maxTokens = 512;
    bool stopAtEnd = true; ///< stop at the model's own end tokens
    /// Guesses tokens from the conversation and checks several in one pass. The answer is the same:
    /// only where results do not depend on the rows of a call (the CPU), and not where layers keep
    /// states that cannot be cut anywhere.
    bool speculate = true;
};

struct GenerateResult {
    std::string text;
    std::vector<TokenId> tokens; ///< generated, without the stop token
    enum class Stop { EndToken, MaxTokens, ContextFull, Cancelled } stop{};
    int32_t promptTokens = 0, reusedTokens = 0;
    double promptTps = 0, generateTps = 0, firstTokenMs = 0;
    int32_t guessedTokens = 0, rightGuesses = 0; ///< that were checked in passes with others
    uint64_t seed = 0;
    std::string note; ///< a sentence when the conversation had to be put otherwise, else empty
};

/// A session together with the tokens it holds, so that a new prompt re-uses the common prefix.
struct Conversation {
    Session session;
    std::vector<TokenId> tokens;
};

/// Continues `conversation` so that it holds `prompt`, then generates. `onText` gets complete UTF-8
/// pieces as they come, with the token that completed them (-1 for what is left at the end).
/// Cancelling ends it with what was written so far (stop = Cancelled), not with an error.
/// Error{BadInput} for an empty prompt, a token outside the vocabulary, or a prompt that leaves no
/// room in the context.
GenerateResult
generate(Runner& runner, Conversation& conversation, std::span<const TokenId> prompt,
         const GenerateOptions& options, const Progress& progress = {},
         const std::function<void(std::string_view text, TokenId token)>& onText = {});

} // namespace nibble
