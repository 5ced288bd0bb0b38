#pragma once

#include <cstdint>
#include <string_view>

/// Numbers of the GGUF container (ggml's gguf.md), versions 2 and 3, little-endian.
namespace nibble::gguf {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr uint32_t kMaxDims = 4;

enum ValueType : uint32_t {
    kU8 = 0,
    kI8 = 1,
    kU16 = 2,
    kI16 = 3,
    kU32 = 4,
    kI32 = 5,
    kF32 = 6,
    kBool = 7,
    kString = 8,
    kArray = 9,
    kU64 = 10,
    kI64 = 11,
    kF64 = 12,
};

/// Bytes of one value in the file; the least that one takes for strings; 0 for unknown types.
constexpr uint64_t valueBytes(uint32_t type) {
    switch (type) {
    case kU8:
    case kI8:
    case kBool:
        return 1;
    case kU16:
    case kI16:
        return 2;
    case kU32:
    case kI32:
    case kF32:
        return 4;
    case kString:
    case kU64:
    case kI64:
    case kF64:
        return 8;
    default:
        return 0;
    }
}

} // namespace nibble::gguf
