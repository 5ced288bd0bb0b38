#include "core/tokenizer/character_map.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

namespace nibble {
namespace {

uint32_t littleEndian(std::string_view bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i)
        value |= uint32_t(static_cast<unsigned char>(bytes[i])) << (8 * i);
    return value;
}

// The fields of a unit, as Darts-clone packs them.
uint32_t childrenOf(uint32_t unit) {
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}
uint32_t labelOf(uint32_t unit) {
    return unit & (1u << 31 | 0xFFu);
}
bool endsHere(uint32_t unit) {
    return (unit >> 8 & 1) != 0;
}
uint32_t valueOf(uint32_t unit) {
    return unit & ~(1u << 31);
}

} // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& source) {
    const uint64_t trie = bytes.size() < 4 ? UINT64_MAX : littleEndian(bytes);
    if (trie > bytes.size() - 4 || trie % 4 != 0 || trie == 0)
        fail(ErrorKind::BadInput,
             "{}: the rules for replacing characters say that they are {} bytes of {}; the file is "
             "damaged.",
             source, trie, bytes.size());
    bytes.remove_prefix(4);
    for (size_t at = 0; at < trie; at += 4)
        m_units.push_back(littleEndian(bytes.substr(at)));
    m_replacements = bytes.substr(trie);
}

size_t CharacterMap::longest(std::string_view text, uint32_t& value) const {
    size_t length = 0;
    uint32_t at = childrenOf(m_units[0]);
    for (size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        at ^= byte;
        if (at >= m_units.size() || labelOf(m_units[at]) != byte)
            break;
        const uint32_t unit = m_units[at];
        at ^= childrenOf(unit);
        if (endsHere(unit) && at < m_units.size()) {
            value = valueOf(m_units[at]);
            length = i + 1;
        }
    }
    return length;
}

std::string CharacterMap::apply(std::string_view text) const {
    std::string out;
    while (!text.empty()) {
        uint32_t value = 0;
        size_t length = longest(text, value);
        if (length > 0 && value < m_replacements.size()) {
            const std::string_view by = std::string_view(m_replacements).substr(value);
            checkGrown(out.size() + by.size());
            out += by.substr(0, by.find('\0'));
        } else {
            length = firstCharacter(text).length;
            out += text.substr(0, length);
        }
        text.remove_prefix(length);
    }
    return out;
}

} // namespace nibble
