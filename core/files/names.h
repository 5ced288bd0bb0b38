#pragma once

#include <string_view>

namespace nibble {

/// Whether the bytes are well-formed UTF-8 (no overlong forms, surrogates, or values above 10FFFF).
bool isUtf8(std::string_view text);

/// Whether a file name taken from another file is one plain component that stays in its folder: no
/// separator, drive, "..", control character or device name, and at most 255 bytes.
bool isPlainFileName(std::string_view name);

} // namespace nibble
