#include "core/tokenizer/normalize.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace nibble {
namespace {

// Marks are put into order by insertion, in a time that grows with the square of their number. No
// writing has so many on one letter: beyond this they are ordered part by part.
constexpr size_t kMarksOrdered = 1024;

bool isAscii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// Where to end a part of `text` so that no run of marks in it is longer than kMarksOrdered.
size_t endOfPart(std::string_view text) {
    size_t marks = 0;
    for (size_t at = 0; at < text.size(); at += firstCharacter(text.substr(at)).length) {
        const auto code = static_cast<utf8proc_int32_t>(codePoint(text.substr(at)));
        marks = utf8proc_get_property(code)->combining_class != 0 ? marks + 1 : 0;
        if (marks > kMarksOrdered)
            return at;
    }
    return text.size();
}

std::string mapped(std::string_view text, utf8proc_option_t options) {
    utf8proc_uint8_t* result = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(text.size()), &result, options);
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
    if (length < 0)
        fail(ErrorKind::OutOfMemory, "A text could not be normalized: {}.",
             utf8proc_errmsg(length));
    return std::string(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
}

void append(std::string& out, utf8proc_int32_t code) {
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t length = utf8proc_encode_char(code, bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

/// Calls `change` with every character and its code; other bytes are copied.
template <typename Change>
std::string changed(std::string_view text, Change&& change) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const Utf8Step step = firstCharacter(text);
        const std::string_view character = text.substr(0, step.length);
        if (step.kind == Utf8::Character)
            change(out, character, static_cast<utf8proc_int32_t>(codePoint(character)));
        else
            out += character;
        text.remove_prefix(step.length);
    }
    return out;
}

} // namespace

std::string toNormalForm(std::string_view text, NormalForm form) {
    if (isAscii(text))
        return std::string(text);
    const bool compose = form == NormalForm::Nfc || form == NormalForm::Nfkc;
    const bool compatible = form == NormalForm::Nfkc || form == NormalForm::Nfkd;
    const auto options = static_cast<utf8proc_option_t>(
        UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
        (compatible ? UTF8PROC_COMPAT : 0));
    std::string out;
    forEachStretch(text, [&](std::string_view stretch, bool valid) {
        if (!valid)
            out += stretch;
        while (valid && !stretch.empty()) {
            const size_t end = endOfPart(stretch);
            out += mapped(stretch.substr(0, end), options);
            stretch.remove_prefix(end);
        }
    });
    return out;
}

std::string toLowerCase(std::string_view text) {
    return changed(text, [](std::string& out, std::string_view, utf8proc_int32_t code) {
        constexpr utf8proc_int32_t kDottedI = 0x130, kDotAbove = 0x307;
        if (code == kDottedI) { // the one character whose lower case is two
            out += 'i';
            append(out, kDotAbove);
        } else {
            append(out, utf8proc_tolower(code));
        }
    });
}

std::string stripSpaces(std::string_view text, bool left, bool right) {
    size_t begin = text.size(), end = 0;
    for (size_t at = 0; at < text.size();) {
        const Utf8Step step = firstCharacter(text.substr(at));
        if (step.kind != Utf8::Character || !isSpace(codePoint(text.substr(at)))) {
            begin = std::min(begin, at);
            end = at + step.length;
        }
        at += step.length;
    }
    if (!left)
        begin = 0;
    if (!right)
        end = text.size();
    return begin < end ? std::string(text.substr(begin, end - begin)) : std::string();
}

std::string stripAccents(std::string_view text) {
    return changed(text, [](std::string& out, std::string_view character, utf8proc_int32_t code) {
        const utf8proc_category_t category = utf8proc_category(code);
        if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
            category != UTF8PROC_CATEGORY_ME)
            out += character;
    });
}

} // namespace nibble
