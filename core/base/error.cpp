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

/// Bytes of the UTF-8 character that the text begins with; 0 where it is none.
size_t characterLength(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (length > text.size())
        return 0;
    for (size_t i = 1; i < length; ++i)
        if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80)
            return 0;
    return length;
}

} // namespace

std::string printable(std::string_view text, size_t limit) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (out.size() >= limit)
            return out + "…";
        const size_t length = characterLength(text.substr(i));
        if (c < 0x20 || c == 0x7f || length == 0) {
            out += fmt::format("\\x{:02x}", c);
        } else if (isHidden(text.substr(i))) {
            out += "\\u" +
                   fmt::format("{:04x}", 0x2000 + ((text[i + 1] & 1) << 6) + (text[i + 2] & 0x3f));
            i += 2;
        } else {
            out += text.substr(i, length);
            i += length - 1;
        }
    }
    return out;
}

} // namespace nibble
