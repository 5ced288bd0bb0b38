#pragma once

namespace nibble::test {

/// How much longer the same work takes in this build: with a sanitizer about ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kPatience = 10;
#else
inline constexpr int kPatience = 1;
#endif

/// A wait's limit in milliseconds, for what takes no more than `s` seconds in an ordinary build.
constexpr int seconds(int s) {
    return s * 1000 * kPatience;
}

} // namespace nibble::test
