#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Text by characters (code points), as Python sees it. All text here is valid UTF-8.
namespace nibble::jinja {

bool isValidUtf8(std::string_view text);
/// Bytes of the character that starts with this byte.
inline size_t characterBytes(char first) {
    const auto byte = static_cast<unsigned char>(first);
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
/// The character at `at`, which moves behind it.
char32_t nextCharacter(std::string_view text, size_t& at);
void append(std::string& text, char32_t character);
std::u32string characters(std::string_view text);
std::string utf8(std::u32string_view text);
int64_t countCharacters(std::string_view text);

/// As str.isspace() of one character.
bool isSpace(char32_t c);
/// Bytes of the white space character at `at`; 0 when there is another one, or the end.
size_t spaceAt(std::string_view text, size_t at);
/// Bytes of the white space character that ends before `end`.
size_t spaceBefore(std::string_view text, size_t end);
std::string_view stripLeft(std::string_view text);
std::string_view stripRight(std::string_view text);

bool isAlpha(char32_t c);
bool isDecimal(char32_t c);
bool isDigit(char32_t c);
bool isNumeric(char32_t c);
bool isPrintable(char32_t c); ///< what repr() writes as it is
bool isUpper(char32_t c);
bool isLower(char32_t c);
bool isCased(char32_t c); ///< upper, lower or title case

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string casefold(std::string_view text);
std::string capitalize(std::string_view text);
/// As str.title(): every letter after a character without case is large, all others small.
std::string title(std::string_view text);

} // namespace nibble::jinja
