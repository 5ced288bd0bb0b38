#pragma once

#include "core/model/config.h"
#include "core/runtime/backend.h"

#include <cstddef>
#include <cstdint>

namespace nibble {

/// How one layer's keys and values lie in a page on the CPU: [page][kv head]{keys, values}. Keys
/// stand dimension by dimension, each with the page's 32 tokens, so that a vector holds tokens and
/// scores need no sums across lanes; values stand token by token, padded to 16 dimensions.
struct KvLayout {
    KvFormat kFormat{}, vFormat{};
    int32_t headSize = 0, kvHeads = 0, queriesPerHead = 0;

    KvLayout() = default;
    /// Error{Usage} when the heads cannot be kept in these formats.
    KvLayout(const ModelConfig& config, KvFormat k, KvFormat v);

    int32_t paddedHead() const { return (headSize + 15) / 16 * 16; }
    size_t keyBytes() const;
    size_t valueBytes() const;
    size_t pageBytes() const { return (keyBytes() + valueBytes()) * size_t(kvHeads); }
    size_t keysAt(int32_t page, int32_t head) const {
        return size_t(page) * pageBytes() + size_t(head) * (keyBytes() + valueBytes());
    }
    size_t valuesAt(int32_t page, int32_t head) const { return keysAt(page, head) + keyBytes(); }

    /// Stores one token's key and value of one head (headSize floats each).
    void store(std::byte* layer, int32_t page, int32_t head, int32_t token, const float* key,
               const float* value) const;
    /// The page's keys as floats [headSize][32], and values [32][paddedHead].
    void readKeys(const std::byte* keys, float* out) const;
    void readValues(const std::byte* values, float* out) const;
};

} // namespace nibble
