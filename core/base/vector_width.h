#pragma once

/// Marks a function of plain loops that is compiled for every vector width and chosen at run time.
/// Not under sanitizers, whose run time is not ready when such functions are chosen: addresses are
/// checked there, at full speed otherwise.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NIBBLE_EVERY_VECTOR_WIDTH                                                                  \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#elif defined(__SANITIZE_ADDRESS__)
#define NIBBLE_EVERY_VECTOR_WIDTH __attribute__((no_sanitize("undefined"), optimize("O3")))
#else
#define NIBBLE_EVERY_VECTOR_WIDTH
#endif
