#pragma once

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <volk.h>
#pragma GCC diagnostic pop

namespace nibble {

/// Throws when a Vulkan call failed: Error{DeviceLost}, Error{OutOfMemory}, else Error{Internal}.
void checkVulkan(VkResult result, const char* call);

/// Loads libvulkan once for the process; false when there is none.
bool loadVulkan();

} // namespace nibble
