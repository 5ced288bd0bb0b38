#pragma once

#include "core/runtime/runner.h"

namespace nibble {

/// Which KV pages are free, and how many sessions share each of the others.
struct Session::Pages {
    Pages(int32_t count, bool holdStates);

    int32_t freeCount() const { return static_cast<int32_t>(free.size()); }
    /// A page with one owner; freeCount() must not be 0.
    int32_t take();
    void share(int32_t page) { ++owners[static_cast<size_t>(page)]; }
    void release(int32_t page);
    bool isShared(int32_t page) const { return owners[static_cast<size_t>(page)] > 1; }

    /// Where a session can go on that is cut in front of `position`: there, or at the start of its
    /// page, where the pages hold states of layers and not all tokens' keys alone.
    int32_t rewound(int32_t position) const {
        return holdStates ? position / kPageTokens * kPageTokens : position;
    }

    std::vector<int32_t> owners, free;
    bool holdStates = false;
};

} // namespace nibble
