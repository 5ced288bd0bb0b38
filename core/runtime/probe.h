#pragma once

#include "core/runtime/backend.h"
#include "core/runtime/vulkan/product_tiling.h"

#include <optional>
#include <string>

namespace nibble {

/// Which product kernels a device runs: those of its table's row, or what was measured on it.
struct KernelChoice {
    bool dot = false, broadcast = false, matrix = false;
    ProductTilings products{};
    bool measured = false;
    std::string text() const;
};

/// Times a few variants of each product kernel, for two seconds at most (on a GPU), and has the
/// backend use the fastest whose results are right; the next time with the same driver and kernels
/// the choice is read from the cache folder. Leaves everything as it is on a device without a
/// clock or without room for it. Error{DeviceLost}.
void probeKernels(Backend& backend);

/// What a backend's stages run from now on; nothing for what is not Vulkan.
std::optional<KernelChoice> kernelChoice(Backend& backend);

/// Kernels that the user asks for, right or wrong, fast or slow.
struct ForcedKernels {
    std::string without; ///< of "dot", "broadcast", "matrix", "tails" and "outliers", by commas
    std::string tiling;  ///< "256x1x2" (ProductTiling); empty = as chosen
};
/// Error{Usage} for a name or a tiling that the device does not have.
void forceKernels(Backend& backend, const ForcedKernels& forced);

} // namespace nibble
