#pragma once

#include "core/runtime/runner.h"

namespace nibble {

/// Which KV pages are free, and how many sessions share each of the others.
struct Session::Pages {
    explicit Pages(int32_t count);

    int32_t freeCount() const { return static_cast<int32_t>(free.size()); }
    /// A page with one owner; freeCount() must not be 0.
    int32_t take();
    void share(int32_t page) { ++owners[static_cast<size_t>(page)]; }
    void release(int32_t page);
    bool isShared(int32_t page) const { return owners[static_cast<size_t>(page)] > 1; }

    std::vector<int32_t> owners, free;
};

} // namespace nibble
