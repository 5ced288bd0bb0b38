#include "core/tokenizer/utf8.h"

namespace nibble {

Utf8Step firstCharacter(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned lead = byte(0);
    if (lead < 0x80)
        return {Utf8::Character, 1};
    const size_t length = lead >= 0xC2 && lead < 0xE0   ? 2
                          : (lead & 0xF0) == 0xE0       ? 3
                          : lead >= 0xF0 && lead < 0xF5 ? 4
                                                        : 0;
    if (length == 0)
        return {Utf8::Invalid, 1};
    for (size_t i = 1; i < length; ++i) {
        if (i == text.size())
            return {Utf8::Incomplete, i};
        unsigned low = 0x80, high = 0xBF;
        if (i == 1) { // no overlong forms, no surrogates, nothing above U+10FFFF
            low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
            high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        }
        if (byte(i) < low || byte(i) > high)
            return {Utf8::Invalid, i};
    }
    return {Utf8::Character, length};
}

std::string replaceInvalid(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const Utf8Step step = firstCharacter(text);
        out += step.kind == Utf8::Character ? text.substr(0, step.length) : kReplacementCharacter;
        text.remove_prefix(step.length);
    }
    return out;
}

std::string replaceAll(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(text.size());
    for (size_t at; (at = text.find(from)) != std::string_view::npos;
         text.remove_prefix(at + from.size())) {
        out += text.substr(0, at);
        out += to;
    }
    out += text;
    return out;
}

} // namespace nibble
