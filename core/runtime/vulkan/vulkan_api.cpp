#define VOLK_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "core/runtime/vulkan/vulkan_api.h"
#pragma GCC diagnostic pop

#include "core/base/error.h"

namespace nibble {

void checkVulkan(VkResult result, const char* call) {
    switch (result) {
    case VK_SUCCESS:
        return;
    case VK_ERROR_DEVICE_LOST:
        fail(ErrorKind::DeviceLost,
             "The GPU stopped answering ({} lost the device); close other programs that use it, or "
             "run with fewer layers on it.",
             call);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
        fail(ErrorKind::OutOfMemory,
             "The GPU driver has no memory left ({} returned {}); close other programs that use "
             "it, or choose a smaller level or context.",
             call, static_cast<int>(result));
    default:
        fail(ErrorKind::Internal, "{} failed with Vulkan result {}.", call,
             static_cast<int>(result));
    }
}

bool loadVulkan() {
    static const bool loaded = volkInitialize() == VK_SUCCESS;
    return loaded;
}

} // namespace nibble
