#include "core/serve/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace nibble {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Rows of the next prompt chunk: as many as take about a tenth of a second, so that a slow device
/// can still be stopped in time. Powers of two, because every shape is recorded once.
int32_t nextChunk(int32_t rows, double seconds, int32_t most) {
    if (seconds > 0.12)
        return std::max(1, rows / 2);
    return seconds < 0.05 ? std::min(rows * 2, most) : rows;
}

void requireUsable(const Runner& runner, std::span<const TokenId> prompt) {
    if (prompt.empty())
        fail(ErrorKind::BadInput, "The prompt is empty; write at least one character.");
    const int32_t vocabulary = runner.model().config.vocabulary;
    for (const TokenId token : prompt)
        if (token < 0 || token >= vocabulary)
            fail(ErrorKind::BadInput, "Token {} is outside the model's vocabulary of {} (0 to {}).",
                 token, vocabulary, vocabulary - 1);
    if (prompt.size() >= static_cast<size_t>(runner.options().context))
        fail(
            ErrorKind::BadInput,
            "The prompt has {} tokens and leaves no room for an answer in the context of {}; use a "
            "larger context or a shorter prompt.",
            prompt.size(), runner.options().context);
}

/// One answer being written: what it needs from step to step.
class Generation {
public:
    Generation(Runner& runner, Conversation& conversation, const GenerateOptions& options,
               const Progress& progress)
        : m_runner(runner), m_conversation(conversation), m_options(options), m_progress(progress) {
    }

    /// Drops what differs from the prompt; at least its last token is computed again, for logits.
    int32_t reuse(std::span<const TokenId> prompt) {
        auto& held = m_conversation.tokens;
        const auto most = std::min(
            {held.size(), prompt.size() - 1, static_cast<size_t>(m_conversation.session.length())});
        size_t common = 0;
        while (common < most && held[common] == prompt[common])
            ++common;
        m_conversation.session.truncate(static_cast<int32_t>(common));
        const int32_t left = m_conversation.session.length();
        held.resize(static_cast<size_t>(left));
        return left;
    }

    /// Computes the rest of the prompt; false when cancelled on the way.
    bool read(std::span<const TokenId> prompt) {
        const int32_t most = std::max(1, m_runner.options().maxRows);
        int32_t chunk = std::min(16, most);
        for (size_t at = m_conversation.tokens.size(); at < prompt.size();) {
            if (stopped())
                return false;
            const size_t count = std::min(static_cast<size_t>(chunk), prompt.size() - at);
            const auto start = Clock::now();
            if (!step(prompt.subspan(at, count), at + count == prompt.size()))
                return false;
            at += count;
            if (count == static_cast<size_t>(chunk))
                chunk = nextChunk(chunk, secondsSince(start), most);
            m_progress.report(static_cast<double>(at), static_cast<double>(prompt.size()),
                              "Reading the prompt");
        }
        return true;
    }

    /// False when it was cancelled on the way; the tokens then are not part of the conversation.
    bool step(std::span<const TokenId> tokens, bool wantLogits) {
        m_rows.assign(tokens.size(), {});
        for (size_t i = 0; i < tokens.size(); ++i)
            m_rows[i] = {&m_conversation.session, tokens[i], -1, false};
        m_rows.back().wantLogits = wantLogits;
        ForwardIo io;
        if (wantLogits)
            io.logits = &m_logits;
        io.cancel = m_progress.cancel.get();
        try {
            m_runner.forward(m_rows, io);
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::Cancelled)
                throw;
            return false;
        }
        m_conversation.tokens.insert(m_conversation.tokens.end(), tokens.begin(), tokens.end());
        return true;
    }

    bool stopped() const {
        if (!m_progress.cancelled() && m_progress.onCheck)
            m_progress.onCheck();
        return m_progress.cancelled();
    }

    std::span<const float> logits() const { return m_logits; }

private:
    Runner& m_runner;
    Conversation& m_conversation;
    const GenerateOptions& m_options;
    const Progress& m_progress;
    std::vector<ForwardRow> m_rows;
    std::vector<float> m_logits;
};

} // namespace

GenerateResult generate(Runner& runner, Conversation& conversation, std::span<const TokenId> prompt,
                        const GenerateOptions& options, const Progress& progress,
                        const std::function<void(std::string_view text, TokenId token)>& onText) {
    requireUsable(runner, prompt);
    GenerateResult result;
    SamplerOptions sampling = options.sampler;
    if (sampling.seed == 0)
        sampling.seed = freshSeed();
    result.seed = sampling.seed;
    result.promptTokens = static_cast<int32_t>(prompt.size());
    result.stop = GenerateResult::Stop::Cancelled;

    Generation generation(runner, conversation, options, progress);
    const auto start = Clock::now();
    result.reusedTokens = generation.reuse(prompt);
    if (!generation.read(prompt))
        return result;
    result.promptTps = (result.promptTokens - result.reusedTokens) / secondsSince(start);

    const auto& tokenizer = runner.model().tokenizer;
    std::optional<TokenStream> stream;
    if (tokenizer)
        stream.emplace(tokenizer, prompt.back());
    const auto tell = [&](const std::string& text, TokenId token) {
        result.text += text;
        if (onText && !text.empty())
            onText(text, token);
    };
    const auto ends = [&](TokenId token) {
        if (!options.stopAtEnd || !tokenizer)
            return false;
        const auto& stops = tokenizer->info().stops;
        return std::find(stops.begin(), stops.end(), token) != stops.end();
    };

    Sampler sampler(sampling);
    const auto firstToken = Clock::now();
    double lastToken = 0;
    while (true) {
        if (static_cast<int32_t>(result.tokens.size()) >= options.maxTokens) {
            result.stop = GenerateResult::Stop::MaxTokens;
            break;
        }
        const TokenId token = sampler.pick(generation.logits(), conversation.tokens);
        if (result.tokens.empty())
            result.firstTokenMs = 1000 * secondsSince(start);
        lastToken = secondsSince(firstToken);
        if (ends(token)) {
            result.stop = GenerateResult::Stop::EndToken;
            break;
        }
        result.tokens.push_back(token);
        if (stream)
            tell(stream->push(token), token);
        if (static_cast<int32_t>(result.tokens.size()) >= options.maxTokens)
            continue;
        if (conversation.session.length() >= runner.options().context) {
            result.stop = GenerateResult::Stop::ContextFull;
            break;
        }
        if (generation.stopped() || !generation.step(std::span(&token, 1), true))
            break;
    }
    if (stream)
        tell(stream->finish(), -1);
    // The first token came with the prompt; every later one cost one forward pass.
    const auto passes = static_cast<double>(result.tokens.size()) -
                        (result.stop == GenerateResult::Stop::EndToken ? 0 : 1);
    if (passes > 0 && lastToken > 0)
        result.generateTps = passes / lastToken;
    return result;
}

} // namespace nibble
