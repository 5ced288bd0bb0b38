#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

namespace nibble {

/// A stretch of text being merged: bytes [at, at + length), its id, and its neighbours.
struct MergeSymbol {
    int32_t id;
    uint32_t at, length; ///< length 0: swallowed by its left neighbour
    int32_t previous = -1, next = -1;
};

/// What two neighbours would become; the smallest key merges first, the leftmost among equals.
struct Merge {
    float key;
    int32_t id;
};

/// Merges neighbours until `find(left, right)` (an optional Merge) knows no more, in O(n log n).
/// The survivors are those of non-zero length, in order.
template <typename Find>
void mergeSymbols(std::vector<MergeSymbol>& symbols, Find&& find) {
    struct Candidate {
        float key;
        int32_t left, right, id;
        uint32_t length;
        bool operator<(const Candidate& other) const {
            return key > other.key || (key == other.key && left > other.left);
        }
    };
    std::vector<Candidate> storage;
    storage.reserve(symbols.size());
    std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(storage));
    const auto propose = [&](int32_t left, int32_t right) {
        if (left < 0 || right < 0)
            return;
        const MergeSymbol &a = symbols[size_t(left)], &b = symbols[size_t(right)];
        if (const std::optional<Merge> merge = find(a, b))
            queue.push({merge->key, left, right, merge->id, a.length + b.length});
    };
    const auto count = static_cast<int32_t>(symbols.size());
    for (int32_t i = 0; i < count; ++i) {
        symbols[size_t(i)].previous = i - 1;
        symbols[size_t(i)].next = i + 1 < count ? i + 1 : -1;
    }
    for (int32_t i = 1; i < count; ++i)
        propose(i - 1, i);
    while (!queue.empty()) {
        const Candidate best = queue.top();
        queue.pop();
        MergeSymbol &left = symbols[size_t(best.left)], &right = symbols[size_t(best.right)];
        // A symbol only ever grows or vanishes, so equal total length means that neither has
        // changed.
        if (left.length == 0 || right.length == 0 || left.length + right.length != best.length)
            continue;
        left.length = best.length;
        left.id = best.id;
        right.length = 0;
        left.next = right.next;
        if (right.next >= 0)
            symbols[size_t(right.next)].previous = best.left;
        propose(left.previous, best.left);
        propose(best.left, left.next);
    }
}

} // namespace nibble
