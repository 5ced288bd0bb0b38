#pragma once

#include "core/runtime/vulkan/product_tiling.h"
#include "core/runtime/vulkan/weights.h"

namespace nibble {

/// Activation rows of the largest product kernel without matrix units.
inline constexpr int32_t kWidestRows = 16;

/// How the kernels are cut on a device. Results differ between shapes by the order of float sums
/// only.
struct KernelTiling {
    ProductTilings products;
    uint32_t prepare = 64, attention = 64; ///< invocations of a workgroup
    /// Workgroups that may share the rows of one preparation, so that a few rows fill a device.
    uint32_t prepareWorkgroups = 1;
    /// Up to so many rows the last workgroup of a step prepares the next product's input. On a GPU
    /// one workgroup takes longer than a step of many.
    int32_t tailRows = kWidestRows;

    const ProductTiling& product(int32_t rows) const;
    /// Workgroups for each of `rows` rows of `blocks` blocks.
    uint32_t prepareParts(uint32_t rows, uint32_t blocks) const;
};

/// The table's row for a device; NIBBLE_VULKAN_TILING=gpu or software takes that row on any device.
/// What the probe of a device found replaces its products (core/runtime/probe.h).
KernelTiling kernelTiling(const VulkanDevice& device);

/// Whether a device can run a product of `rows` rows so.
bool fits(const ProductTiling& tiling, uint32_t rows, const VkPhysicalDeviceLimits& limits);

/// The same for one that may not be a tiling at all.
bool isKernel(const ProductTiling& tiling, uint32_t rows, const VkPhysicalDeviceLimits& limits);

/// The product of prepared rows with a part of a matrix, its result stored: `rows` are 1, 2, 4, 8
/// or a multiple of 16. Inputs, result, step data and arguments (among them the rows) are the
/// caller's.
Dispatch productDispatch(const DeviceMatrix& matrix, const DeviceMatrix::Part& part, int32_t rows,
                         const ProductTiling& tiling, const VulkanPaths& paths);

/// Whether a product of so many rows runs on matrix units.
bool onMatrixUnits(const DeviceMatrix& matrix, int32_t rows, const VulkanPaths& paths);

} // namespace nibble
