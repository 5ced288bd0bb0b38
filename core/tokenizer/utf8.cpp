#include "core/tokenizer/utf8.h"

#include "core/base/error.h"
#include "core/base/limits.h"

namespace nibble {

void checkGrown(size_t bytes) {
    if (bytes > limits::kTextBytes)
        fail(ErrorKind::BadInput,
             "The tokenizer's replacements make the text longer than {} bytes; the tokenizer is "
             "damaged or hostile, or the text too long.",
             limits::kTextBytes);
}

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

void forEachStretch(std::string_view text,
                    const std::function<void(std::string_view stretch, bool valid)>& found) {
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
        const Utf8Step step = firstCharacter(text.substr(at));
        if (step.kind != Utf8::Character) {
            if (at > begin)
                found(text.substr(begin, at - begin), true);
            found(text.substr(at, step.length), false);
            begin = at + step.length;
        }
        at += step.length;
    }
    if (begin < text.size())
        found(text.substr(begin), true);
}

uint32_t codePoint(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80)
        return lead;
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    uint32_t code = lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; ++i)
        code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
    return code;
}

bool isSpace(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == ' ' || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
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
        checkGrown(out.size() + at + to.size());
        out += text.substr(0, at);
        out += to;
    }
    out += text;
    return out;
}

} // namespace nibble
