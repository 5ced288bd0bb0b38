#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace nibble {

/// How a product kernel is cut (vulkan_kernels/product.comp): invocations of a workgroup, tiles of
/// 16 matrix rows that it multiplies at once, blocks that an invocation loads ahead, and whether
/// neighbours read neighbouring blocks or each a stretch of its own.
struct ProductTiling {
    uint32_t workgroup = 64, tiles = 1, ahead = 1;
    bool spread = false;
    /// "256 × 1 × 2": invocations, tiles, blocks loaded ahead.
    std::string text() const;
    friend bool operator==(const ProductTiling&, const ProductTiling&) = default;
};

/// For 1, 2, 4, 8 and 16 rows.
using ProductTilings = std::array<ProductTiling, 5>;

} // namespace nibble
