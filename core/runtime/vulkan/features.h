#pragma once

#include "core/runtime/vulkan/vulkan_api.h"

#include <cstdint>

namespace nibble {

/// What a device has of the optional features that kernels can use, less those hidden by
/// NIBBLE_VULKAN_DISABLE.
struct VulkanFeatures {
    /// Matrix units that multiply 16 × 32 by 32 × 16 signed bytes in subgroups of 32, by the name
    /// of the extension that gives them.
    enum class Matrix : uint8_t { None, Khr, Nv };
    Matrix matrix = Matrix::None;
    bool dot = false;
    /// Subgroups of always the same 8 or 16 invocations that can read for each other (those of a
    /// product's slice need the same activations), and words of 64 bits.
    bool broadcast = false;
    bool memoryBudget = false;
    /// The driver itself folds specialization constants before it compiles.
    bool specialization = true;
    /// The driver's compiler unrolls loops that a kernel tells it to.
    bool unrolling = true;
};

/// Less what its driver is known to do badly (the table of quirks).
VulkanFeatures findFeatures(VkPhysicalDevice physical);

VkPhysicalDeviceDriverProperties driverOf(VkPhysicalDevice physical);

// VK_KHR_cooperative_matrix is newer than the headers that this is built with.
inline constexpr const char* kMatrixKhr = "VK_KHR_cooperative_matrix";
inline constexpr const char* kMatrixNv = VK_NV_COOPERATIVE_MATRIX_EXTENSION_NAME;
inline constexpr auto kMatrixKhrFeatures = static_cast<VkStructureType>(1000506000);
struct MatrixKhrFeatures {
    VkStructureType sType = kMatrixKhrFeatures;
    void* pNext = nullptr;
    VkBool32 cooperativeMatrix = VK_FALSE, cooperativeMatrixRobustBufferAccess = VK_FALSE;
};

} // namespace nibble
