#pragma once

#include "core/tokenizer/tokenizer.h"

#include <array>
#include <unordered_map>

namespace nibble {

/// A stretch of text, or a token that stands in it.
struct Fragment {
    std::string_view text;
    TokenId token = -1; ///< −1: ordinary text
};

/// Finds tokens that are written out in text: a trie over their spellings.
class SpecialTokens {
public:
    struct Token {
        TokenId id;
        bool control; ///< found only when control tokens are asked for
        bool takesSpaceBefore = false, takesSpaceAfter = false; ///< swallows white space around it
        bool singleWord = false; ///< found only where no letter, digit or _ touches it
    };
    void add(std::string_view text, Token token);
    bool empty() const { return m_tokens.empty(); }

    /// Cuts `text` at the special tokens in it, from the left, the longest at each place.
    std::vector<Fragment> split(std::string_view text, bool withControl) const;

private:
    const Token* longestAt(std::string_view text, bool withControl, size_t& length) const;

    static uint64_t edge(uint32_t node, char c) {
        return uint64_t(node) << 8 | static_cast<unsigned char>(c);
    }

    std::unordered_map<uint64_t, uint32_t> m_edges; ///< (node, byte) → node
    std::unordered_map<uint32_t, Token> m_tokens;   ///< by the node that ends them
    std::array<bool, 256> m_first{};                ///< bytes that some token starts with
    uint32_t m_nodes = 1;
};

} // namespace nibble
