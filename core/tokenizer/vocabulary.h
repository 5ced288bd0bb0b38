#pragma once

#include "core/tokenizer/tokenizer.h"

#include <array>

namespace nibble {

/// GGUF token types (tokenizer.ggml.token_type).
enum class TokenType : uint8_t { Undefined, Normal, Unknown, Control, UserDefined, Unused, Byte };

/// The tokens of a model by id and by text.
class Vocabulary {
public:
    /// Checks sizes and types; `types` may be empty (all normal). Error{BadInput} naming `source`.
    Vocabulary(std::vector<std::string> texts, std::span<const int32_t> types, std::string source);
    Vocabulary(Vocabulary&&) = default;
    Vocabulary& operator=(Vocabulary&&) = default;

    int32_t size() const { return static_cast<int32_t>(m_texts.size()); }
    const std::string& text(TokenId id) const { return m_texts[size_t(id)]; }
    TokenType type(TokenId id) const { return m_types[size_t(id)]; }
    void setType(TokenId id, TokenType type) { m_types[size_t(id)] = type; }
    bool isSpecial(TokenId id) const {
        return type(id) == TokenType::Control || type(id) == TokenType::Unknown;
    }
    const std::string& source() const { return m_source; }
    size_t longest() const { return m_longest; }

    /// The token of that text, of any type, or −1. Of equal texts an ordinary token is preferred,
    /// then the last one.
    TokenId find(std::string_view text) const;
    /// The token that ordinary text of these bytes may become, or −1: never a control, unknown or
    /// byte token, so that what a user types cannot become one by merging.
    TokenId findOrdinary(std::string_view text) const;
    /// The token <0xXX> of a byte, or −1.
    TokenId byteToken(unsigned char byte) const { return m_byteTokens[byte]; }
    bool hasAllBytes() const;

    /// A token that merging cannot form: it was added to the vocabulary and is only found in text.
    void setAdded(TokenId id) { m_added[size_t(id)] = true; }

    /// Marks tokens spelled <0xXX> as bytes, for sources that carry no types.
    void markByteTokens();

private:
    void indexBytes();
    bool isOrdinary(TokenId id) const {
        return !isSpecial(id) && type(id) != TokenType::Byte && !m_added[size_t(id)];
    }

    std::vector<std::string> m_texts;
    std::vector<TokenType> m_types;
    std::vector<bool> m_added;
    std::string m_source;
    // By text, in open addressing: opening a vocabulary asks for a million texts, and a slot is one
    // miss of the cache where a node of std::unordered_map is three.
    struct Slot {
        uint32_t hash = 0;
        TokenId id = -1; ///< −1: free
    };
    size_t slotOf(std::string_view text, uint32_t& hash) const;
    std::vector<Slot> m_slots;
    std::array<TokenId, 256> m_byteTokens;
    size_t m_longest = 0;
};

/// The value of a token text <0xXX>, or −1.
int byteTokenValue(std::string_view text);

/// Fills size, eot and stops, and checks that bos, eos, eot and unknown are tokens of the
/// vocabulary.
void completeInfo(Tokenizer::Info& info, const Vocabulary& vocabulary);

} // namespace nibble
