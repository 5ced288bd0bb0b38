#include "core/tokenizer/special_tokens.h"

namespace nibble {

void SpecialTokens::add(std::string_view text, Token token) {
    if (text.empty())
        return;
    m_first[static_cast<unsigned char>(text.front())] = true;
    uint32_t node = 0;
    for (const char c : text) {
        const auto [at, isNew] = m_edges.try_emplace(edge(node, c), m_nodes);
        if (isNew)
            ++m_nodes;
        node = at->second;
    }
    m_tokens.insert_or_assign(node, token);
}

const SpecialTokens::Token* SpecialTokens::longestAt(std::string_view text, bool withControl,
                                                     size_t& length) const {
    const Token* best = nullptr;
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto next = m_edges.find(edge(node, text[i]));
        if (next == m_edges.end())
            break;
        node = next->second;
        const auto token = m_tokens.find(node);
        if (token != m_tokens.end() && (withControl || !token->second.control)) {
            best = &token->second;
            length = i + 1;
        }
    }
    return best;
}

std::vector<Fragment> SpecialTokens::split(std::string_view text, bool withControl) const {
    constexpr std::string_view kSpace = " \t\n\v\f\r";
    std::vector<Fragment> fragments;
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
        size_t length = 0;
        const Token* token = m_first[static_cast<unsigned char>(text[at])]
                                 ? longestAt(text.substr(at), withControl, length)
                                 : nullptr;
        if (!token) {
            ++at;
            continue;
        }
        std::string_view before = text.substr(begin, at - begin);
        if (token->takesSpaceBefore)
            before = before.substr(0, before.find_last_not_of(kSpace) + 1);
        if (!before.empty())
            fragments.push_back({before});
        fragments.push_back({text.substr(at, length), token->id});
        at += length;
        if (token->takesSpaceAfter)
            at = std::min(text.find_first_not_of(kSpace, at), text.size());
        begin = at;
    }
    if (begin < text.size())
        fragments.push_back({text.substr(begin)});
    return fragments;
}

} // namespace nibble
