#pragma once

#include <string>
#include <string_view>

namespace nibble {

/// The steps of a tokenizer.json's normalizer. Bytes that are not UTF-8 stay as they are.

enum class NormalForm { Nfc, Nfd, Nfkc, Nfkd };
std::string toNormalForm(std::string_view text, NormalForm form);

/// Every character in lower case by itself (a sigma does not look at what follows).
std::string toLowerCase(std::string_view text);

/// Without the white space at the ends asked for.
std::string stripSpaces(std::string_view text, bool left, bool right);

/// Without combining marks.
std::string stripAccents(std::string_view text);

} // namespace nibble
