#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace nibble {

/// Memory on a cache line boundary; of 2 MB and more, in large pages where the system has them:
/// what is read from one end to the other, again and again, spares a search for each 4 kB (on a
/// virtual machine a search of its own each). Error: std::bad_alloc.
void* allocateLarge(size_t bytes);
void freeLarge(void* memory, size_t bytes) noexcept;

template <typename T>
struct LargeAllocator {
    using value_type = T;

    LargeAllocator() = default;
    template <typename U>
    explicit(false) LargeAllocator(const LargeAllocator<U>& /*other*/) {}

    T* allocate(size_t count) { return static_cast<T*>(allocateLarge(count * sizeof(T))); }
    void deallocate(T* memory, size_t count) noexcept { freeLarge(memory, count * sizeof(T)); }
    bool operator==(const LargeAllocator& /*other*/) const { return true; }
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

} // namespace nibble
