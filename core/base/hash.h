#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nibble {

/// FNV-1a over bytes, 64 bits: names of texts, recipes and files in reports and caches. Not
/// cryptographic.
uint64_t hashBytes(std::span<const std::byte> bytes, uint64_t seed = 0xcbf29ce484222325ull);
uint64_t hashText(std::string_view text);
/// 16 lower-case hexadecimal digits.
std::string hashName(uint64_t hash);

} // namespace nibble
