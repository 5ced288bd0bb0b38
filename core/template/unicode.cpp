#include "core/template/unicode.h"

#include <utf8proc.h>

namespace nibble::jinja {
namespace {

const utf8proc_uint8_t* bytes(std::string_view text) {
    return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

utf8proc_category_t category(char32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

} // namespace

bool isValidUtf8(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        if (static_cast<unsigned char>(text[at]) < 0x80) {
            ++at;
            continue;
        }
        utf8proc_int32_t c = -1;
        const auto length = utf8proc_iterate(bytes(text.substr(at)),
                                             static_cast<utf8proc_ssize_t>(text.size() - at), &c);
        if (length <= 0)
            return false;
        at += static_cast<size_t>(length);
    }
    return true;
}

char32_t nextCharacter(std::string_view text, size_t& at) {
    const auto byte = [&](size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) & 0x3fu : 0u;
    };
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t length = characterBytes(text[at]);
    char32_t c = first;
    if (length == 2)
        c = (first & 0x1fu) << 6 | byte(at + 1);
    else if (length == 3)
        c = (first & 0x0fu) << 12 | byte(at + 1) << 6 | byte(at + 2);
    else if (length == 4)
        c = (first & 0x07u) << 18 | byte(at + 1) << 12 | byte(at + 2) << 6 | byte(at + 3);
    at += length;
    return c;
}

void append(std::string& text, char32_t character) {
    utf8proc_uint8_t buffer[4];
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(character), buffer);
    text.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

std::u32string characters(std::string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();)
        out += nextCharacter(text, at);
    return out;
}

std::string utf8(std::u32string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char32_t c : text)
        append(out, c);
    return out;
}

int64_t countCharacters(std::string_view text) {
    int64_t count = 0;
    for (const char c : text)
        count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return count;
}

bool isSpace(char32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t spaceAt(std::string_view text, size_t at) {
    if (at >= text.size())
        return 0;
    size_t end = at;
    return isSpace(nextCharacter(text, end)) ? end - at : 0;
}

size_t spaceBefore(std::string_view text, size_t end) {
    if (end == 0)
        return 0;
    size_t at = end - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80)
        --at;
    return spaceAt(text.substr(0, end), at);
}

std::string_view stripLeft(std::string_view text) {
    while (const size_t space = spaceAt(text, 0))
        text.remove_prefix(space);
    return text;
}

std::string_view stripRight(std::string_view text) {
    while (const size_t space = spaceBefore(text, text.size()))
        text.remove_suffix(space);
    return text;
}

bool isAlpha(char32_t c) {
    const auto kind = category(c);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool isDecimal(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool isDigit(char32_t c) {
    // Superscripts, subscripts and circled digits count as digits, other numbers do not.
    return isDecimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247c) ||
           (c >= 0x2488 && c <= 0x2490) || c == 0x24ea || (c >= 0x24f5 && c <= 0x24fd) ||
           c == 0x24ff || (c >= 0x2776 && c <= 0x277e) || (c >= 0x2780 && c <= 0x2788) ||
           (c >= 0x278a && c <= 0x2792);
}

bool isNumeric(char32_t c) {
    const auto kind = category(c);
    return isDigit(c) || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool isPrintable(char32_t c) {
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return c == ' ';
    default:
        return true;
    }
}

bool isUpper(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LU;
}

bool isLower(char32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LL || c == 0xaa || c == 0xba;
}

bool isCased(char32_t c) {
    return isUpper(c) || isLower(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

namespace {

char32_t upperOf(char32_t c) {
    return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t lowerOf(char32_t c) {
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

/// Letters whose large form is several characters; the last is the form in a title.
struct LongForm {
    char32_t letter;
    const char32_t *upper, *title;
};
constexpr LongForm kLongForms[] = {
    {0xdf, U"SS", U"Ss"},
    {0xfb00, U"FF", U"Ff"},
    {0xfb01, U"FI", U"Fi"},
    {0xfb02, U"FL", U"Fl"},
    {0xfb03, U"FFI", U"Ffi"},
    {0xfb04, U"FFL", U"Ffl"},
    {0xfb05, U"ST", U"St"},
    {0xfb06, U"ST", U"St"},
    {0x149, U"\u02bcN", U"\u02bcN"},
    {0x1f0, U"J\u030c", U"J\u030c"},
    {0x587, U"\u0535\u0552", U"\u0535\u0582"},
};

const LongForm* longFormOf(char32_t c) {
    for (const LongForm& row : kLongForms)
        if (row.letter == c)
            return &row;
    return nullptr;
}

void appendUpper(std::string& out, char32_t c) {
    if (const LongForm* row = c < 0x80 ? nullptr : longFormOf(c))
        out += utf8(row->upper);
    else
        append(out, upperOf(c));
}

void appendTitle(std::string& out, char32_t c) {
    if (const LongForm* row = c < 0x80 ? nullptr : longFormOf(c))
        out += utf8(row->title);
    else
        append(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

/// A sigma that ends a word has a form of its own.
void appendLower(std::string& out, std::u32string_view text, size_t at) {
    if (text[at] == 0x130) {
        out += "i\u0307";
        return;
    }
    const bool ends = text[at] == 0x3a3 && at > 0 && isCased(text[at - 1]) &&
                      (at + 1 == text.size() || !isCased(text[at + 1]));
    append(out, ends ? 0x3c2 : lowerOf(text[at]));
}

} // namespace

std::string upper(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();)
        appendUpper(out, nextCharacter(text, at));
    return out;
}

std::string lower(std::string_view text) {
    const std::u32string all = characters(text);
    std::string out;
    for (size_t i = 0; i < all.size(); ++i)
        appendLower(out, all, i);
    return out;
}

std::string casefold(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const char32_t c = nextCharacter(text, at);
        if (const LongForm* row = c < 0x80 ? nullptr : longFormOf(c))
            out += lower(utf8(row->upper));
        else
            append(out, c == 0x3c2 ? 0x3c3 : lowerOf(c));
    }
    return out;
}

std::string capitalize(std::string_view text) {
    const std::u32string all = characters(text);
    std::string out;
    for (size_t i = 0; i < all.size(); ++i)
        i == 0 ? appendTitle(out, all[i]) : appendLower(out, all, i);
    return out;
}

std::string title(std::string_view text) {
    const std::u32string all = characters(text);
    std::string out;
    bool inWord = false;
    for (size_t i = 0; i < all.size(); ++i) {
        inWord ? appendLower(out, all, i) : appendTitle(out, all[i]);
        inWord = isCased(all[i]);
    }
    return out;
}

} // namespace nibble::jinja
