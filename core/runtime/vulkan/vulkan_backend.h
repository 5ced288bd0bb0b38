#pragma once

#include "core/runtime/backend.h"

namespace nibble {

/// Every Vulkan device; empty when there is no loader or driver (`why` then says what is missing).
std::vector<DeviceInfo> listVulkanDevices(std::string* why = nullptr);

/// Opens device `index` of listVulkanDevices(). NIBBLE_VULKAN_DISABLE=dot,fp16,… in the environment
/// hides optional features; NIBBLE_VULKAN_MEMORY=BYTES makes the device as small as that;
/// NIBBLE_VULKAN_VALIDATION=1 turns the validation layer on, and then
/// every message is an Error{Internal} at the next end(). Error{Usage} when there is no such
/// device.
std::shared_ptr<Backend> openVulkan(int index);

} // namespace nibble
