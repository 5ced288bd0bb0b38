// What the loader asks of a layer, and the calls about instances and physical devices.
#include "tests/support/vulkan_layer/layer_calls.h"

#include <cstring>
#include <map>
#include <mutex>

namespace nibble::test {
namespace {

/// The next layer's calls. Looked up while the instance is made: later the loader's own end of the
/// chain answers with the chain's beginning.
struct InstanceData {
    PFN_vkGetInstanceProcAddr next = nullptr;
    PFN_vkDestroyInstance destroy = nullptr;
    PFN_vkCreateDevice createDevice = nullptr;
    PFN_vkGetPhysicalDeviceProperties properties = nullptr;
    PFN_vkGetPhysicalDeviceProperties2 properties2 = nullptr;
    PFN_vkGetPhysicalDeviceMemoryProperties memory = nullptr;
    PFN_vkGetPhysicalDeviceMemoryProperties2 memory2 = nullptr;
};

InstanceData lookUp(VkInstance instance, PFN_vkGetInstanceProcAddr next) {
    InstanceData data;
    data.next = next;
    const auto get = [&]<typename F>(F& call, const char* name) {
        call = reinterpret_cast<F>(next(instance, name));
    };
    get(data.destroy, "vkDestroyInstance");
    get(data.createDevice, "vkCreateDevice");
    get(data.properties, "vkGetPhysicalDeviceProperties");
    get(data.properties2, "vkGetPhysicalDeviceProperties2");
    get(data.memory, "vkGetPhysicalDeviceMemoryProperties");
    get(data.memory2, "vkGetPhysicalDeviceMemoryProperties2");
    return data;
}

std::mutex g_mutex;
std::map<void*, InstanceData> g_instances; ///< by dispatch table

template <typename Handle>
InstanceData instanceOf(Handle handle) {
    const std::lock_guard lock(g_mutex);
    return g_instances.at(dispatchKey(handle));
}

VKAPI_ATTR VkResult VKAPI_CALL createInstance(const VkInstanceCreateInfo* info,
                                              const VkAllocationCallbacks* allocator,
                                              VkInstance* instance) {
    readLayerEnvironment();
    auto* link =
        findLink<VkLayerInstanceCreateInfo>(info, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    const auto next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    const auto create =
        reinterpret_cast<PFN_vkCreateInstance>(next(VK_NULL_HANDLE, "vkCreateInstance"));
    const VkResult result = create(info, allocator, instance);
    if (result != VK_SUCCESS)
        return result;
    ++vulkanLayer().liveObjects;
    const std::lock_guard lock(g_mutex);
    g_instances[dispatchKey(*instance)] = lookUp(*instance, next);
    return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL destroyInstance(VkInstance instance,
                                           const VkAllocationCallbacks* allocator) {
    if (!instance)
        return;
    const InstanceData data = instanceOf(instance);
    void* key = dispatchKey(instance);
    data.destroy(instance, allocator);
    --vulkanLayer().liveObjects;
    writeLayerReport();
    const std::lock_guard lock(g_mutex);
    g_instances.erase(key);
}

VKAPI_ATTR VkResult VKAPI_CALL createDevice(VkPhysicalDevice physical,
                                            const VkDeviceCreateInfo* info,
                                            const VkAllocationCallbacks* allocator,
                                            VkDevice* device) {
    auto* link =
        findLink<VkLayerDeviceCreateInfo>(info, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    if (const int fault = nextCall(VulkanCall::Create); fault != VK_SUCCESS)
        return static_cast<VkResult>(fault);
    const auto next = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    const VkResult result = instanceOf(physical).createDevice(physical, info, allocator, device);
    if (result == VK_SUCCESS) {
        ++vulkanLayer().liveObjects;
        addDevice(*device, next);
    }
    return result;
}

void changeProperties(VkPhysicalDeviceProperties& properties) {
    const VulkanLayer& layer = vulkanLayer();
    if (layer.storageRange != 0)
        properties.limits.maxStorageBufferRange = static_cast<uint32_t>(layer.storageRange);
    if (layer.discrete)
        properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

/// lavapipe's one type of memory as two: the device's, which the host does not see, and the host's.
void changeMemory(VkPhysicalDeviceMemoryProperties& memory) {
    const VulkanLayer& layer = vulkanLayer();
    if (layer.budget != 0)
        memory.memoryHeaps[0].size = layer.budget;
    if (!layer.discrete)
        return;
    memory.memoryHeapCount = 2;
    memory.memoryHeaps[1] = {memory.memoryHeaps[0].size, 0};
    memory.memoryTypeCount = 2;
    memory.memoryTypes[0] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
    memory.memoryTypes[1] = {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                 VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                                 VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                             1};
}

VKAPI_ATTR void VKAPI_CALL getProperties(VkPhysicalDevice physical,
                                         VkPhysicalDeviceProperties* properties) {
    instanceOf(physical).properties(physical, properties);
    changeProperties(*properties);
}

VKAPI_ATTR void VKAPI_CALL getProperties2(VkPhysicalDevice physical,
                                          VkPhysicalDeviceProperties2* properties) {
    instanceOf(physical).properties2(physical, properties);
    changeProperties(properties->properties);
    for (auto* more = static_cast<VkBaseOutStructure*>(properties->pNext); more; more = more->pNext)
        if (more->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES &&
            vulkanLayer().allocationSize != 0)
            reinterpret_cast<VkPhysicalDeviceMaintenance3Properties*>(more)
                ->maxMemoryAllocationSize = vulkanLayer().allocationSize;
}

VKAPI_ATTR void VKAPI_CALL getMemory(VkPhysicalDevice physical,
                                     VkPhysicalDeviceMemoryProperties* memory) {
    instanceOf(physical).memory(physical, memory);
    changeMemory(*memory);
}

VKAPI_ATTR void VKAPI_CALL getMemory2(VkPhysicalDevice physical,
                                      VkPhysicalDeviceMemoryProperties2* memory) {
    instanceOf(physical).memory2(physical, memory);
    changeMemory(memory->memoryProperties);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL getInstanceProc(VkInstance instance, const char* name) {
    const Intercept mine[] = {
        intercept("vkGetInstanceProcAddr", getInstanceProc),
        intercept("vkGetDeviceProcAddr", getDeviceProc),
        intercept("vkCreateInstance", createInstance),
        intercept("vkDestroyInstance", destroyInstance),
        intercept("vkCreateDevice", createDevice),
        intercept("vkGetPhysicalDeviceProperties", getProperties),
        intercept("vkGetPhysicalDeviceProperties2", getProperties2),
        intercept("vkGetPhysicalDeviceProperties2KHR", getProperties2),
        intercept("vkGetPhysicalDeviceMemoryProperties", getMemory),
        intercept("vkGetPhysicalDeviceMemoryProperties2", getMemory2),
        intercept("vkGetPhysicalDeviceMemoryProperties2KHR", getMemory2),
    };
    for (const Intercept& one : mine)
        if (std::strcmp(one.name, name) == 0)
            return one.function;
    if (const auto function = findDeviceCall(name))
        return function;
    return instance ? instanceOf(instance).next(instance, name) : nullptr;
}

} // namespace
} // namespace nibble::test

extern "C" VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface* with) {
    if (with->sType != LAYER_NEGOTIATE_INTERFACE_STRUCT || with->loaderLayerInterfaceVersion < 2)
        return VK_ERROR_INITIALIZATION_FAILED;
    with->loaderLayerInterfaceVersion = 2;
    with->pfnGetInstanceProcAddr = nibble::test::getInstanceProc;
    with->pfnGetDeviceProcAddr = nibble::test::getDeviceProc;
    with->pfnGetPhysicalDeviceProcAddr = nullptr;
    return VK_SUCCESS;
}
