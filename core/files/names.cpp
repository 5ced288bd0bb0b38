#include "core/files/names.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace nibble {

bool isUtf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<uint8_t>(text[i]);
        const size_t length = lead < 0x80   ? 1
                              : lead < 0xc2 ? 0
                              : lead < 0xe0 ? 2
                              : lead < 0xf0 ? 3
                              : lead < 0xf5 ? 4
                                            : 0;
        if (length == 0 || text.size() - i < length)
            return false;
        uint32_t point = length == 1 ? lead : lead & (0x7fu >> length);
        for (size_t k = 1; k < length; ++k) {
            const auto next = static_cast<uint8_t>(text[i + k]);
            if ((next & 0xc0) != 0x80)
                return false;
            point = point << 6 | (next & 0x3fu);
        }
        if ((length == 3 && point < 0x800) || (length == 4 && point < 0x10000) ||
            point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
            return false;
        i += length;
    }
    return true;
}

bool isPlainFileName(std::string_view name) {
    if (name.empty() || name.size() > 255 || name == "." || name == ".." || !isUtf8(name))
        return false;
    for (const char c : name)
        if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\' || c == ':')
            return false;
    std::string stem(name.substr(0, name.find('.')));
    std::transform(stem.begin(), stem.end(), stem.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    constexpr std::string_view devices[] = {"con", "prn", "aux", "nul"};
    const bool port = stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) &&
                      stem[3] >= '0' && stem[3] <= '9';
    return !port && std::find(std::begin(devices), std::end(devices), stem) == std::end(devices);
}

} // namespace nibble
