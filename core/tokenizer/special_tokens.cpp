#include "core/tokenizer/special_tokens.h"

#include "core/tokenizer/utf8.h"

#include <utf8proc.h>

namespace nibble {
namespace {

bool isWordCharacter(std::string_view text) {
    constexpr utf8proc_int32_t kNonJoiner = 0x200C, kJoiner = 0x200D;
    if (firstCharacter(text).kind != Utf8::Character)
        return false;
    const auto code = static_cast<utf8proc_int32_t>(codePoint(text));
    const utf8proc_category_t category = utf8proc_category(code);
    return category == UTF8PROC_CATEGORY_PC || code == kNonJoiner || code == kJoiner ||
           (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL);
}

/// Where the last character of `text` (not empty) begins.
size_t startOfLast(std::string_view text) {
    size_t at = text.size() - 1;
    while (at > 0 && text.size() - at < 4 && (text[at] & 0xC0) == 0x80)
        --at;
    return at;
}

/// Whether neither neighbour of text[begin, end) is part of a word.
bool standsAlone(std::string_view text, size_t begin, size_t end) {
    if (end < text.size() && isWordCharacter(text.substr(end)))
        return false;
    if (begin == 0)
        return true;
    const size_t before = startOfLast(text.substr(0, begin));
    return !isWordCharacter(text.substr(before, begin - before));
}

/// Where the white space at the end of `text` begins, and that at its start ends.
size_t spaceAtEnd(std::string_view text) {
    while (!text.empty()) {
        const std::string_view last = text.substr(startOfLast(text));
        if (firstCharacter(last).kind != Utf8::Character || !isSpace(codePoint(last)))
            break;
        text.remove_suffix(last.size());
    }
    return text.size();
}
size_t spaceAtStart(std::string_view text) {
    size_t at = 0;
    while (at < text.size() && firstCharacter(text.substr(at)).kind == Utf8::Character &&
           isSpace(codePoint(text.substr(at))))
        at += firstCharacter(text.substr(at)).length;
    return at;
}

} // namespace

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
        if (token->singleWord && !standsAlone(text, at, at + length)) {
            at += length;
            continue;
        }
        std::string_view before = text.substr(begin, at - begin);
        if (token->takesSpaceBefore)
            before = before.substr(0, spaceAtEnd(before));
        if (!before.empty())
            fragments.push_back({before});
        fragments.push_back({text.substr(at, length), token->id});
        at += length;
        if (token->takesSpaceAfter)
            at += spaceAtStart(text.substr(at));
        begin = at;
    }
    if (begin < text.size())
        fragments.push_back({text.substr(begin)});
    return fragments;
}

} // namespace nibble
