#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

/// SentencePiece's rules for replacing characters (precompiled_charsmap): a double-array trie
/// (Darts-clone's units of 32 bits) over what is replaced, then the replacements, each ended by a
/// zero byte.
class CharacterMap {
public:
    /// Error{BadInput} naming `source` when the sizes in it contradict each other.
    CharacterMap(std::string_view bytes, const std::string& source);

    /// `text` with the longest known stretch at each place replaced. Bytes that are not UTF-8 stay.
    std::string apply(std::string_view text) const;

private:
    /// The longest stretch that `text` starts with, or 0; `value` is where its replacement lies.
    size_t longest(std::string_view text, uint32_t& value) const;

    std::vector<uint32_t> m_units;
    std::string m_replacements;
};

} // namespace nibble
