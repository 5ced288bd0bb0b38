#include "core/serve/generate.h"

#include "core/serve/speculation.h"

#include <algorithm>
#include <bit>
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

/// Whether checking guesses gives what one token after the other gives, bit for bit, and sessions
/// can forget any of them.
bool canSpeculate(const Runner& runner) {
    const RunOptions& run = runner.options();
    return !runner.model().config.hasConvolutions() && !run.expertBackend &&
           run.expertBudget == 0 &&
           std::ranges::all_of(run.placement, [](const Placement& placement) {
               return placement.backend->info().kind == "cpu";
           });
}

/// One answer being written: what it needs from step to step.
class Generation {
public:
    Generation(Runner& runner, Conversation& conversation, const GenerateOptions& options,
               const Progress& progress, GenerateResult& result)
        : m_runner(runner), m_conversation(conversation), m_progress(progress), m_result(result),
          m_vocabulary(static_cast<size_t>(runner.model().config.vocabulary)),
          m_mostRows(options.speculate && canSpeculate(runner)
                         ? std::min(DraftWidth::kMostRows, runner.options().maxRows)
                         : 1) {}

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
            if (!run(prompt.subspan(at, count), at + count == prompt.size() ? 1 : 0))
                return false;
            keep(prompt.subspan(at, count));
            at += count;
            if (count == static_cast<size_t>(chunk))
                chunk = nextChunk(chunk, secondsSince(start), most);
            m_progress.report(static_cast<double>(at), static_cast<double>(prompt.size()),
                              "Reading the prompt");
        }
        return true;
    }

    /// The conversation goes on with `token`; logits() then are what follows it. At most `most`
    /// tokens will be asked for after it. False when cancelled: the token then is not part of it.
    bool next(TokenId token, int32_t most) {
        if (m_row < m_guess.size()) {
            m_width.guessed(m_guess[m_row] == token);
            if (m_row + 1 < m_checked) {
                if (m_guess[m_row] == token) {
                    ++m_row;
                    ++m_result.rightGuesses;
                    keep(std::span(&token, 1));
                    return true;
                }
                settle();
            }
        }
        const int32_t room = m_runner.options().context - m_conversation.session.length();
        const int32_t rows = std::min({m_mostRows, most, room});
        m_guess.clear();
        m_row = 0;
        if (m_mostRows > 1) {
            std::vector<TokenId>& held = m_conversation.tokens;
            held.push_back(token);
            m_guess = lookUp(held, m_mostRows - 1);
            held.pop_back();
        }
        const auto known = static_cast<int32_t>(std::bit_floor(m_guess.size() + 1));
        m_checked = static_cast<size_t>(rows > 1 ? m_width.rows(std::min(rows, known)) : 1);
        m_step.assign(1, token);
        m_step.insert(m_step.end(), m_guess.begin(),
                      m_guess.begin() + static_cast<ptrdiff_t>(m_checked - 1));
        const auto start = Clock::now();
        if (!run(m_step, m_checked))
            return false;
        m_width.took(static_cast<int32_t>(m_checked), secondsSince(start));
        m_result.guessedTokens += static_cast<int32_t>(m_checked) - 1;
        keep(std::span(&token, 1));
        return true;
    }

    /// Forgets guesses that did not come.
    void settle() {
        const auto length = static_cast<int32_t>(m_conversation.tokens.size());
        if (m_conversation.session.length() > length)
            m_conversation.session.truncate(length);
        m_checked = 0;
    }

    bool stopped() const {
        if (!m_progress.cancelled() && m_progress.onCheck)
            m_progress.onCheck();
        return m_progress.cancelled();
    }

    std::span<const float> logits() const {
        return std::span(m_logits).subspan(m_row * m_vocabulary, m_vocabulary);
    }

private:
    /// Runs tokens behind the session, with the logits of the last `wanted`. False when it was
    /// cancelled on the way; the session then does not hold them.
    bool run(std::span<const TokenId> tokens, size_t wanted) {
        m_rows.assign(tokens.size(), {});
        for (size_t i = 0; i < tokens.size(); ++i)
            m_rows[i] = {&m_conversation.session, tokens[i], -1, i + wanted >= tokens.size()};
        ForwardIo io;
        if (wanted > 0)
            io.logits = &m_logits;
        io.cancel = m_progress.cancel.get();
        try {
            m_runner.forward(m_rows, io);
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::Cancelled)
                throw;
            return false;
        }
        return true;
    }

    void keep(std::span<const TokenId> tokens) {
        m_conversation.tokens.insert(m_conversation.tokens.end(), tokens.begin(), tokens.end());
    }

    Runner& m_runner;
    Conversation& m_conversation;
    const Progress& m_progress;
    GenerateResult& m_result;
    size_t m_vocabulary;
    int32_t m_mostRows; ///< of a pass; 1 = nothing is guessed
    std::vector<ForwardRow> m_rows;
    std::vector<float> m_logits; ///< of the rows of the last pass that wanted them
    DraftWidth m_width;
    std::vector<TokenId> m_guess, m_step;
    size_t m_checked = 0; ///< rows of the last pass: its first token and the guesses behind it
    size_t m_row = 0;     ///< of them, the one that the conversation ends with
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

    Generation generation(runner, conversation, options, progress, result);
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
        if (static_cast<int32_t>(conversation.tokens.size()) >= runner.options().context) {
            result.stop = GenerateResult::Stop::ContextFull;
            break;
        }
        const auto left = options.maxTokens - static_cast<int32_t>(result.tokens.size());
        if (generation.stopped() || !generation.next(token, left))
            break;
    }
    generation.settle();
    if (stream)
        tell(stream->finish(), -1);
    // The first token came with the prompt.
    const auto later = static_cast<double>(result.tokens.size()) -
                       (result.stop == GenerateResult::Stop::EndToken ? 0 : 1);
    if (later > 0 && lastToken > 0)
        result.generateTps = later / lastToken;
    return result;
}

} // namespace nibble
