#pragma once

#include "core/runtime/backend.h"

namespace nibble {

/// Every Vulkan device; empty when there is no loader or driver (`why` then says what is missing).
std::vector<DeviceInfo> listVulkanDevices(std::string* why = nullptr);

/// Opens device `index` of listVulkanDevices(). NIBBLE_VULKAN_DISABLE=dot,fp16,… in the environment
/// hides optional features; NIBBLE_VULKAN_MEMORY=BYTES makes the device as small as that;
/// NIBBLE_VULKAN_VALIDATION=1 turns the validation layer on, and then every message is an
/// Error{Internal} at the next end(). A GPU's kernels are chosen by a probe (core/runtime/probe.h)
/// when it is first opened; NIBBLE_VULKAN_PROBE=1 probes software devices too, =0 none.
/// Error{Usage} when there is no such device.
std::shared_ptr<Backend> openVulkan(int index);

} // namespace nibble
