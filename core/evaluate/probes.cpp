#include "core/evaluate/probes.h"

#include "core/base/error.h"
#include "core/model/chat_format.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

/// Words in lower case, each with a space on both sides. Characters beyond ASCII belong to words.
std::string words(std::string_view text) {
    std::string out = " ";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 'A' && byte <= 'Z')
            out += static_cast<char>(byte + ('a' - 'A'));
        else if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 0x80)
            out += c;
        else if (out.back() != ' ')
            out += ' ';
    }
    if (out.back() != ' ')
        out += ' ';
    return out;
}

/// One conversation after the other through one session.
class Interview {
public:
    Interview(Runner& runner, int32_t maxTokens)
        : m_runner(runner), m_tokenizer(tokenizerOf(runner.model())),
          m_format(chatFormat(runner.model())), m_maxTokens(maxTokens) {}

    std::string reply(const Probe& probe, const Progress& progress) {
        const std::vector<TokenId> prompt = encode(probe);
        const auto room =
            static_cast<int64_t>(m_runner.options().context) - static_cast<int64_t>(prompt.size());
        if (room < 1)
            fail(ErrorKind::BadInput,
                 "The question \"{}\" takes {} tokens, which leaves no room for an answer in a "
                 "context of {}; use a larger one.",
                 printable(probe.messages.back().content, 40), prompt.size(),
                 m_runner.options().context);
        Session session = m_runner.newSession();
        std::vector<TokenId> written;
        std::vector<float> logits =
            m_runner.append(session, prompt, false, nullptr, progress.cancel.get());
        const auto& stops = m_tokenizer.info().stops;
        while (static_cast<int64_t>(written.size()) < std::min<int64_t>(room, m_maxTokens)) {
            progress.check();
            const TokenId next = best(logits);
            if (std::find(stops.begin(), stops.end(), next) != stops.end())
                break;
            written.push_back(next);
            logits = m_runner.append(session, std::span(&next, 1), false, nullptr,
                                     progress.cancel.get());
        }
        return m_tokenizer.decode(written);
    }

private:
    static const Tokenizer& tokenizerOf(const Model& model) {
        model.requireTokenizer("it cannot be asked anything");
        return *model.tokenizer;
    }
    std::vector<TokenId> encode(const Probe& probe) const {
        const Model& model = m_runner.model();
        return encodeChat(model, chatPrompt(model, m_format, probe.messages, true).text);
    }
    /// The lowest id of the largest logit.
    TokenId best(std::span<const float> logits) const {
        const auto top = std::max_element(logits.begin(), logits.end());
        if (!std::isfinite(*top))
            fail(ErrorKind::BadInput,
                 "{} computed {} for a token; its weights are damaged, or overflow in this level.",
                 printable(m_runner.model().name), *top);
        return static_cast<TokenId>(top - logits.begin());
    }

    Runner& m_runner;
    const Tokenizer& m_tokenizer;
    ChatFormat m_format;
    int32_t m_maxTokens;
};

ProbeReport::Category& categoryOf(ProbeReport& report, const std::string& name) {
    for (ProbeReport::Category& category : report.categories)
        if (category.category == name)
            return category;
    return report.categories.emplace_back(ProbeReport::Category{.category = name});
}

} // namespace

bool isRightAnswer(std::string_view reply, std::string_view answer) {
    return words(reply).find(words(answer)) != std::string::npos;
}

ProbeReport
measureProbes(Runner& runner, std::span<const Probe> probes, const Progress& progress,
              const std::function<void(const Probe&, std::string_view reply, bool right)>& onReply,
              int32_t maxTokens) {
    Interview interview(runner, maxTokens);
    ProbeReport report;
    int64_t correct = 0;
    for (const Probe& probe : probes) {
        progress.check();
        const std::string reply = interview.reply(probe, progress);
        const bool right = isRightAnswer(reply, probe.answer);
        ProbeReport::Category& category = categoryOf(report, probe.category);
        ++report.count;
        ++category.count;
        category.correct += right;
        correct += right;
        if (onReply)
            onReply(probe, reply, right);
        progress.report(static_cast<double>(report.count), static_cast<double>(probes.size()),
                        "questions");
    }
    if (report.count > 0) {
        const auto n = static_cast<double>(report.count);
        report.accuracy = static_cast<double>(correct) / n;
        report.error = std::sqrt(report.accuracy * (1 - report.accuracy) / n);
    }
    return report;
}

} // namespace nibble
