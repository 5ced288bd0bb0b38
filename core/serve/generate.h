#pragma once

#include "core/base/progress.h"
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

/// Picks one token from logits [vocabulary]. Deterministic for a seed.
class Sampler {
public:
    explicit Sampler(const SamplerOptions& options);
    TokenId pick(std::span<const float> logits, std::span<const TokenId> recent);

private:
    SamplerOptions m_options;
    uint64_t m_state;
    std::vector<std::pair<float, TokenId>> m_candidates;
};

struct GenerateOptions {
    SamplerOptions sampler;
    int32_t maxTokens = 512;
    bool stopAtEnd = true; ///< stop at the model's own end tokens
};

struct GenerateResult {
    std::string text;
    std::vector<TokenId> tokens; ///< generated, without the stop token
    enum class Stop { EndToken, MaxTokens, ContextFull, Cancelled } stop{};
    int32_t promptTokens = 0, reusedTokens = 0;
    double promptTps = 0, generateTps = 0, firstTokenMs = 0;
    uint64_t seed = 0;
};

/// A session together with the tokens it holds, so that a new prompt re-uses the common prefix.
struct Conversation {
    Session session;
    std::vector<TokenId> tokens;
};

/// Continues `conversation` so that it holds `prompt`, then generates. `onText` gets complete UTF-8
/// pieces as they come. Cancelling ends it with what was written so far (stop = Cancelled), not
/// with an error.
GenerateResult
generate(Runner& runner, Conversation& conversation, std::span<const TokenId> prompt,
         const GenerateOptions& options, const Progress& progress = {},
         const std::function<void(std::string_view text, TokenId token)>& onText = {});

} // namespace nibble
