#include "core/base/error.h"

#include <string_view>

namespace nibble {
namespace {

/// Bidirectional controls and zero-width characters (U+200B–200F, U+202A–202E, U+2060–2069), which
/// could make a message read differently from what it says. All are E2 80 xx or E2 81 xx in UTF-8.
bool isHidden(std::string_view at) {
    if (at.size() < 3 || at[0] != '\xe2')
        return false;
    const auto second = static_cast<unsigned char>(at[1]),
               third = static_cast<unsigned char>(at[2]);
    return (second == 0x80 &&
            ((third >= 0x8b && third <= 0x8f) || (third >= 0xaa && third <= 0xae))) ||
           (second == 0x81 && third >= 0xa0 && third <= 0xa9);
}

} // namespace

std::string printable(std::string_view text, size_t limit) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const bool startsCharacter = (c & 0xc0) != 0x80;
        if (out.size() >= limit && startsCharacter)
            return out + "…";
        if (c < 0x20 || c == 0x7f) {
            out += fmt::format("\\x{:02x}", c);
        } else if (isHidden(text.substr(i))) {
            out += "\\u" +
                   fmt::format("{:04x}", 0x2000 + ((text[i + 1] & 1) << 6) + (text[i + 2] & 0x3f));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

} // namespace nibble
