#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace nibble {

/// The printable character that stands for each byte in byte-level vocabularies, as UTF-8:
/// printable Latin-1 bytes stand for themselves, the others for U+0100 onwards in order (the
/// mapping that GPT-2's encoder introduced).
const std::array<std::string, 256>& byteLevelCharacters();

/// The bytes that such a text stands for, or nothing when a character is none of the 256.
std::optional<std::string> byteLevelToBytes(std::string_view text);

/// The text that stands for these bytes.
std::string bytesToByteLevel(std::string_view bytes);

} // namespace nibble
