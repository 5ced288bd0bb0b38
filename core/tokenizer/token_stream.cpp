#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"

namespace nibble {

TokenStream::TokenStream(std::shared_ptr<const Tokenizer> tokenizer, TokenId previous)
    : m_tokenizer(std::move(tokenizer)), m_previous(previous) {}

std::string TokenStream::push(TokenId token) {
    // Decoded behind its predecessor, so that only the space that encoding added is left out.
    const TokenId both[] = {m_previous, token};
    const std::string before = m_tokenizer->decode({both, 1}), after = m_tokenizer->decode(both);
    if (!m_tokenizer->piece(token).empty())
        m_previous = token;
    if (after.size() <= before.size())
        return {};
    m_pending += std::string_view(after).substr(before.size());

    std::string out;
    std::string_view rest = m_pending;
    while (!rest.empty()) {
        const Utf8Step step = firstCharacter(rest);
        if (step.kind == Utf8::Incomplete)
            break;
        out += step.kind == Utf8::Character ? rest.substr(0, step.length) : kReplacementCharacter;
        rest.remove_prefix(step.length);
    }
    m_pending = std::string(rest);
    return out;
}

std::string TokenStream::finish() {
    const std::string out = replaceInvalid(m_pending);
    m_pending.clear();
    return out;
}

} // namespace nibble
