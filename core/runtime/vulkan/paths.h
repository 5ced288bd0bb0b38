#pragma once

#include "core/runtime/backend.h"

#include <string>
#include <string_view>
#include <vector>

namespace nibble {

/// Which kernel paths a Vulkan backend may use; the doctor takes away those that compute wrongly.
struct VulkanPaths {
    bool dot = false;       ///< products with the dot-product instruction
    bool broadcast = false; ///< products whose subgroups read activations for each other
    bool matrix = false;    ///< products of many rows on matrix units
    bool tails = true;      ///< the last workgroup of a step prepares the next product
    bool outliers = true;   ///< products of codes with outliers beside them
    std::vector<std::string> wrongFormats; ///< to be converted: to f16, or f16 to f32
    bool avoids(std::string_view format) const;
};

/// The paths of a Vulkan backend; null for any other.
VulkanPaths* vulkanPaths(Backend& backend);

} // namespace nibble
