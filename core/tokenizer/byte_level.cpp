#include "core/tokenizer/byte_level.h"

#include <cstdint>

namespace nibble {
namespace {

struct Mapping {
    std::array<std::string, 256> characters;
    std::array<int16_t, 512> byteOf; ///< by code point; −1 where it stands for none

    Mapping() {
        byteOf.fill(-1);
        unsigned next = 256;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const bool printable =
                (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
            const unsigned code = printable ? byte : next++;
            if (code < 0x80)
                characters[byte] = static_cast<char>(code);
            else
                characters[byte] = {static_cast<char>(0xC0 | code >> 6),
                                    static_cast<char>(0x80 | (code & 0x3F))};
            byteOf[code] = static_cast<int16_t>(byte);
        }
    }
};

const Mapping& mapping() {
    static const Mapping instance;
    return instance;
}

} // namespace

const std::array<std::string, 256>& byteLevelCharacters() {
    return mapping().characters;
}

std::optional<std::string> byteLevelToBytes(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        unsigned code = static_cast<unsigned char>(text[i]);
        if (code >= 0x80) {
            if (code < 0xC2 || code > 0xC7 || i + 1 == text.size())
                return std::nullopt;
            const unsigned low = static_cast<unsigned char>(text[++i]);
            if ((low & 0xC0) != 0x80)
                return std::nullopt;
            code = (code & 0x1F) << 6 | (low & 0x3F);
        }
        const int16_t byte = mapping().byteOf[code];
        if (byte < 0)
            return std::nullopt;
        bytes += static_cast<char>(byte);
    }
    return bytes;
}

std::string bytesToByteLevel(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char c : bytes)
        text += mapping().characters[static_cast<unsigned char>(c)];
    return text;
}

} // namespace nibble
