#include "core/base/large_allocator.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nibble {
namespace {

constexpr size_t kLargePage = size_t(2) << 20;

std::align_val_t alignmentOf(size_t bytes) {
    constexpr size_t kLine = 64;
    return std::align_val_t(bytes >= kLargePage ? kLargePage : kLine);
}

} // namespace

void* allocateLarge(size_t bytes) {
    void* memory = ::operator new(bytes, alignmentOf(bytes));
#if defined(MADV_HUGEPAGE)
    // Whole pages only: what shares the last one with something else stays as it is. Where the
    // system says no, nothing changes.
    if (const size_t whole = bytes / kLargePage * kLargePage; whole != 0)
        static_cast<void>(madvise(memory, whole, MADV_HUGEPAGE));
#endif
    return memory;
}

void freeLarge(void* memory, size_t bytes) noexcept {
    ::operator delete(memory, alignmentOf(bytes));
}

} // namespace nibble
