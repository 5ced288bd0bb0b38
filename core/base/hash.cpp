#include "core/base/hash.h"

#include <fmt/core.h>

namespace nibble {

uint64_t hashBytes(std::span<const std::byte> bytes, uint64_t seed) {
    uint64_t hash = seed;
    for (const std::byte b : bytes)
        hash = (hash ^ static_cast<uint64_t>(b)) * 0x100000001b3ull;
    return hash;
}

uint64_t hashText(std::string_view text) {
    return hashBytes(std::as_bytes(std::span(text.data(), text.size())));
}

std::string hashName(uint64_t hash) {
    return fmt::format("{:016x}", hash);
}

} // namespace nibble
