#pragma once

#include "core/runtime/vulkan/kernel_constants.h"

#include <span>
#include <vector>

namespace nibble {

/// Whether this build can fold specialization constants itself (it was made with SPIRV-Tools).
bool canSpecialize();

/// A module with its specialization constants set to `constants` (the others to their defaults) and
/// all code removed that they make unreachable. For drivers that compile every branch first:
/// SwiftShader takes minutes and gigabytes for a module of many formats, and a third of a second
/// for the one that is left. Error{Internal} where the module is no valid SPIR-V.
std::vector<uint32_t> specialize(std::span<const uint32_t> module,
                                 const KernelConstants& constants);

} // namespace nibble
