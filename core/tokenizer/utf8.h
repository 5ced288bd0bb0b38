#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace nibble {

/// What the bytes at the start of a text are.
enum class Utf8 { Character, Invalid, Incomplete };
struct Utf8Step {
    Utf8 kind;
    size_t length; ///< bytes of the character, or of the invalid or incomplete stretch (at least 1)
};
/// Looks at the first character of `text` (not empty) by the well-formed byte ranges of Unicode
/// table 3-7. Incomplete: a proper prefix of a character, and the text ends there.
Utf8Step firstCharacter(std::string_view text);

/// Hands on the stretches of `text` that are UTF-8, and between them those that are not, in order.
void forEachStretch(std::string_view text,
                    const std::function<void(std::string_view stretch, bool valid)>& found);

/// The code point at the start of `text`, which is a valid character.
uint32_t codePoint(std::string_view text);

/// Unicode's White_Space.
bool isSpace(uint32_t code);

/// `text` with every invalid or incomplete stretch replaced by U+FFFD.
std::string replaceInvalid(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";
/// U+2581, which stands for a space in SPM vocabularies.
inline constexpr std::string_view kSpmSpace = "\xE2\x96\x81";

/// Error{BadInput} for a text that replacing made longer than limits::kTextBytes.
void checkGrown(size_t bytes);

/// `text` with every `from` replaced by `to`.
std::string replaceAll(std::string_view text, std::string_view from, std::string_view to);

} // namespace nibble
