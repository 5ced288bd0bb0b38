#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace nibble::kernels {

/// One compiled kernel.
struct KernelModule {
    std::string_view name; ///< "product", "product_dot", …
    std::span<const std::uint32_t> words;
    std::string_view hash; ///< SHA-256 of the words, hexadecimal
};

/// Every kernel of this build.
std::span<const KernelModule> kernelModules();

} // namespace nibble::kernels
