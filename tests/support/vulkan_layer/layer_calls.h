#pragma once

#include "tests/support/vulkan_layer/layer_state.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan_core.h>

namespace nibble::test {

/// Instances, devices, queues and command buffers begin with a pointer to the loader's dispatch
/// table; objects of one instance (or device) share it.
template <typename Handle>
void* dispatchKey(Handle handle) {
    return *reinterpret_cast<void**>(handle);
}

/// The loader's link to the next layer in a create info's chain.
template <typename Link, typename Info>
Link* findLink(const Info* info, VkStructureType type) {
    for (auto* at = static_cast<const Link*>(info->pNext); at;
         at = static_cast<const Link*>(at->pNext))
        if (at->sType == type && at->function == VK_LAYER_LINK_INFO)
            return const_cast<Link*>(at);
    return nullptr;
}

struct Intercept {
    const char* name;
    PFN_vkVoidFunction function;
};
template <typename F>
Intercept intercept(const char* name, F* function) {
    return {name, reinterpret_cast<PFN_vkVoidFunction>(function)};
}

void addDevice(VkDevice device, PFN_vkGetDeviceProcAddr next);
/// The layer's version of a device's call, or null.
PFN_vkVoidFunction findDeviceCall(const char* name);
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL getDeviceProc(VkDevice device, const char* name);

} // namespace nibble::test
