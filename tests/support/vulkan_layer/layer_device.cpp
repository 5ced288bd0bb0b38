// The calls of a device: counted, failed, or passed on.
#include "tests/support/vulkan_layer/layer_calls.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble::test {
namespace {

using Counts = std::map<uint64_t, uint64_t>; ///< hash of a module → dispatches

struct Commands {
    uint64_t bound = 0;
    Counts dispatches;
};
struct Memory {
    uint64_t bytes;
    bool hidden; ///< from the host
};

struct DeviceData {
    VkDevice handle = VK_NULL_HANDLE;
    PFN_vkGetDeviceProcAddr next = nullptr;
    bool discrete = false;
    std::atomic<bool> lost{false};
    std::mutex mutex;
    std::map<VkDeviceMemory, Memory> memory;
    std::map<VkShaderModule, uint64_t> modules;
    std::map<VkPipeline, uint64_t> pipelines;
    std::map<VkCommandBuffer, Commands> commands;

    template <typename F>
    F get(const char* name) const {
        return reinterpret_cast<F>(next(handle, name));
    }
};

std::mutex g_mutex;
std::map<void*, std::unique_ptr<DeviceData>> g_devices; ///< by dispatch table
Counts g_executed;

template <typename Handle>
DeviceData& deviceOf(Handle handle) {
    const std::lock_guard lock(g_mutex);
    return *g_devices.at(dispatchKey(handle));
}

uint64_t hashOf(const uint32_t* words, size_t count) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; ++i)
        hash = (hash ^ words[i]) * 0x100000001b3u;
    return hash;
}

/// Whether a call must fail, and how.
VkResult faultOf(DeviceData& device, VulkanCall call) {
    const auto fault = static_cast<VkResult>(nextCall(call));
    if (fault == VK_ERROR_DEVICE_LOST)
        device.lost = true;
    const bool sees = call == VulkanCall::Submit || call == VulkanCall::Wait;
    return device.lost && sees ? VK_ERROR_DEVICE_LOST : fault;
}

/// Makes `Name` of type `F` count as a call of kind `Kind`.
template <typename F, const char* Name, VulkanCall Kind>
struct Counted;
template <typename Handle, typename... Args, const char* Name, VulkanCall Kind>
struct Counted<VkResult(VKAPI_PTR*)(Handle, Args...), Name, Kind> {
    static VKAPI_ATTR VkResult VKAPI_CALL call(Handle handle, Args... args) {
        DeviceData& device = deviceOf(handle);
        if (const VkResult fault = faultOf(device, Kind); fault != VK_SUCCESS)
            return fault;
        return device.get<VkResult(VKAPI_PTR*)(Handle, Args...)>(Name)(handle, args...);
    }
};

/// vkCreate… and vkDestroy… of one kind of object, counted as alive in between.
template <typename F, const char* Name>
struct Made;
template <typename... Args, const char* Name>
struct Made<VkResult(VKAPI_PTR*)(VkDevice, Args...), Name> {
    static VKAPI_ATTR VkResult VKAPI_CALL call(VkDevice handle, Args... args) {
        DeviceData& device = deviceOf(handle);
        if (const VkResult fault = faultOf(device, VulkanCall::Create); fault != VK_SUCCESS)
            return fault;
        const VkResult result =
            device.get<VkResult(VKAPI_PTR*)(VkDevice, Args...)>(Name)(handle, args...);
        if (result == VK_SUCCESS)
            ++vulkanLayer().liveObjects;
        return result;
    }
};
template <typename F, const char* Name>
struct Destroyed;
template <typename Object, const char* Name>
struct Destroyed<void(VKAPI_PTR*)(VkDevice, Object, const VkAllocationCallbacks*), Name> {
    static VKAPI_ATTR void VKAPI_CALL call(VkDevice handle, Object object,
                                           const VkAllocationCallbacks* allocator) {
        if (object != VK_NULL_HANDLE)
            --vulkanLayer().liveObjects;
        deviceOf(handle).get<void(VKAPI_PTR*)(VkDevice, Object, const VkAllocationCallbacks*)>(
            Name)(handle, object, allocator);
    }
};

VKAPI_ATTR void VKAPI_CALL destroyDevice(VkDevice handle, const VkAllocationCallbacks* allocator) {
    if (!handle)
        return;
    void* key = dispatchKey(handle);
    deviceOf(handle).get<PFN_vkDestroyDevice>("vkDestroyDevice")(handle, allocator);
    --vulkanLayer().liveObjects;
    const std::lock_guard lock(g_mutex);
    g_devices.erase(key);
}

VKAPI_ATTR VkResult VKAPI_CALL allocateMemory(VkDevice handle, const VkMemoryAllocateInfo* info,
                                              const VkAllocationCallbacks* allocator,
                                              VkDeviceMemory* memory) {
    DeviceData& device = deviceOf(handle);
    VulkanLayer& layer = vulkanLayer();
    if (const VkResult fault = faultOf(device, VulkanCall::Allocate); fault != VK_SUCCESS)
        return fault;
    const auto bytes = static_cast<int64_t>(info->allocationSize);
    const auto exceeds = [&](int64_t value, uint64_t limit) {
        return limit != 0 && value > static_cast<int64_t>(limit);
    };
    if (exceeds(layer.liveBytes + bytes, layer.budget) || exceeds(bytes, layer.allocationSize)) {
        ++layer.faults;
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    VkMemoryAllocateInfo real = *info;
    if (device.discrete)
        real.memoryTypeIndex = 0;
    const VkResult result =
        device.get<PFN_vkAllocateMemory>("vkAllocateMemory")(handle, &real, allocator, memory);
    if (result != VK_SUCCESS)
        return result;
    ++layer.liveObjects;
    const int64_t live = layer.liveBytes += bytes;
    layer.peakBytes = std::max(layer.peakBytes.load(), live);
    const std::lock_guard lock(device.mutex);
    device.memory[*memory] = {info->allocationSize, device.discrete && info->memoryTypeIndex == 0};
    return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL freeMemory(VkDevice handle, VkDeviceMemory memory,
                                      const VkAllocationCallbacks* allocator) {
    DeviceData& device = deviceOf(handle);
    if (memory != VK_NULL_HANDLE) {
        const std::lock_guard lock(device.mutex);
        const auto found = device.memory.find(memory);
        vulkanLayer().liveBytes -= static_cast<int64_t>(found->second.bytes);
        --vulkanLayer().liveObjects;
        device.memory.erase(found);
    }
    device.get<PFN_vkFreeMemory>("vkFreeMemory")(handle, memory, allocator);
}

VKAPI_ATTR VkResult VKAPI_CALL mapMemory(VkDevice handle, VkDeviceMemory memory,
                                         VkDeviceSize offset, VkDeviceSize size,
                                         VkMemoryMapFlags flags, void** data) {
    DeviceData& device = deviceOf(handle);
    if (const VkResult fault = faultOf(device, VulkanCall::Map); fault != VK_SUCCESS)
        return fault;
    {
        const std::lock_guard lock(device.mutex);
        if (device.memory.at(memory).hidden) {
            ++vulkanLayer().violations;
            return VK_ERROR_MEMORY_MAP_FAILED;
        }
    }
    return device.get<PFN_vkMapMemory>("vkMapMemory")(handle, memory, offset, size, flags, data);
}

VKAPI_ATTR void VKAPI_CALL getBufferNeeds(VkDevice handle, VkBuffer buffer,
                                          VkMemoryRequirements* needs) {
    DeviceData& device = deviceOf(handle);
    device.get<PFN_vkGetBufferMemoryRequirements>("vkGetBufferMemoryRequirements")(handle, buffer,
                                                                                   needs);
    if (device.discrete)
        needs->memoryTypeBits = 3;
}

VKAPI_ATTR void VKAPI_CALL updateSets(VkDevice handle, uint32_t count,
                                      const VkWriteDescriptorSet* writes, uint32_t copyCount,
                                      const VkCopyDescriptorSet* copies) {
    VulkanLayer& layer = vulkanLayer();
    for (uint32_t i = 0; i < count; ++i)
        for (uint32_t j = 0; writes[i].pBufferInfo && j < writes[i].descriptorCount; ++j)
            if (layer.storageRange != 0 && writes[i].pBufferInfo[j].range > layer.storageRange)
                ++layer.violations;
    deviceOf(handle).get<PFN_vkUpdateDescriptorSets>("vkUpdateDescriptorSets")(
        handle, count, writes, copyCount, copies);
}

VKAPI_ATTR VkResult VKAPI_CALL createModule(VkDevice handle, const VkShaderModuleCreateInfo* info,
                                            const VkAllocationCallbacks* allocator,
                                            VkShaderModule* module) {
    DeviceData& device = deviceOf(handle);
    if (const VkResult fault = faultOf(device, VulkanCall::Create); fault != VK_SUCCESS)
        return fault;
    const VkResult result = device.get<PFN_vkCreateShaderModule>("vkCreateShaderModule")(
        handle, info, allocator, module);
    if (result == VK_SUCCESS) {
        ++vulkanLayer().liveObjects;
        const std::lock_guard lock(device.mutex);
        device.modules[*module] = hashOf(info->pCode, info->codeSize / 4);
    }
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL createPipelines(VkDevice handle, VkPipelineCache cache,
                                               uint32_t count,
                                               const VkComputePipelineCreateInfo* infos,
                                               const VkAllocationCallbacks* allocator,
                                               VkPipeline* pipelines) {
    DeviceData& device = deviceOf(handle);
    if (const VkResult fault = faultOf(device, VulkanCall::Create); fault != VK_SUCCESS)
        return fault;
    const VkResult result = device.get<PFN_vkCreateComputePipelines>("vkCreateComputePipelines")(
        handle, cache, count, infos, allocator, pipelines);
    const std::lock_guard lock(device.mutex);
    for (uint32_t i = 0; result == VK_SUCCESS && i < count; ++i) {
        ++vulkanLayer().liveObjects;
        device.pipelines[pipelines[i]] = device.modules[infos[i].stage.module];
    }
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL beginCommands(VkCommandBuffer commands,
                                             const VkCommandBufferBeginInfo* info) {
    DeviceData& device = deviceOf(commands);
    if (const VkResult fault = faultOf(device, VulkanCall::Create); fault != VK_SUCCESS)
        return fault;
    {
        const std::lock_guard lock(device.mutex);
        device.commands[commands] = {};
    }
    return device.get<PFN_vkBeginCommandBuffer>("vkBeginCommandBuffer")(commands, info);
}

VKAPI_ATTR void VKAPI_CALL bindPipeline(VkCommandBuffer commands, VkPipelineBindPoint point,
                                        VkPipeline pipeline) {
    DeviceData& device = deviceOf(commands);
    {
        const std::lock_guard lock(device.mutex);
        device.commands[commands].bound = device.pipelines[pipeline];
    }
    device.get<PFN_vkCmdBindPipeline>("vkCmdBindPipeline")(commands, point, pipeline);
}

void countRecorded(DeviceData& device, VkCommandBuffer commands) {
    ++vulkanLayer().dispatchesRecorded;
    const std::lock_guard lock(device.mutex);
    Commands& into = device.commands[commands];
    ++into.dispatches[into.bound];
}

VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {
    DeviceData& device = deviceOf(commands);
    countRecorded(device, commands);
    device.get<PFN_vkCmdDispatch>("vkCmdDispatch")(commands, x, y, z);
}

VKAPI_ATTR void VKAPI_CALL dispatchBase(VkCommandBuffer commands, uint32_t fromX, uint32_t fromY,
                                        uint32_t fromZ, uint32_t x, uint32_t y, uint32_t z) {
    DeviceData& device = deviceOf(commands);
    countRecorded(device, commands);
    device.get<PFN_vkCmdDispatchBase>("vkCmdDispatchBase")(commands, fromX, fromY, fromZ, x, y, z);
}

void countExecuted(const Counts& dispatches) {
    const std::lock_guard lock(g_mutex);
    for (const auto& [hash, count] : dispatches) {
        g_executed[hash] += count;
        vulkanLayer().dispatchesExecuted += count;
    }
}

VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo* infos,
                                      VkFence fence) {
    DeviceData& device = deviceOf(queue);
    if (const VkResult fault = faultOf(device, VulkanCall::Submit); fault != VK_SUCCESS)
        return fault;
    for (uint32_t i = 0; i < count; ++i)
        for (uint32_t j = 0; j < infos[i].commandBufferCount; ++j) {
            const std::lock_guard lock(device.mutex);
            countExecuted(device.commands[infos[i].pCommandBuffers[j]].dispatches);
        }
    return device.get<PFN_vkQueueSubmit>("vkQueueSubmit")(queue, count, infos, fence);
}

/// A wait that is made to fail has been waited for: what follows may destroy what was in use.
VKAPI_ATTR VkResult VKAPI_CALL waitForFences(VkDevice handle, uint32_t count, const VkFence* fences,
                                             VkBool32 all, uint64_t timeout) {
    DeviceData& device = deviceOf(handle);
    const bool lost = device.lost;
    const VkResult fault = faultOf(device, VulkanCall::Wait);
    if (fault == VK_TIMEOUT)
        std::fputs("The layer hangs.\n", stderr); // for tests that wait for it
    while (fault == VK_TIMEOUT)                   // a driver that never comes back
        std::this_thread::sleep_for(std::chrono::seconds(1));
    if (lost)
        return VK_ERROR_DEVICE_LOST;
    const VkResult result =
        device.get<PFN_vkWaitForFences>("vkWaitForFences")(handle, count, fences, all, timeout);
    return fault != VK_SUCCESS ? fault : result;
}

VKAPI_ATTR VkResult VKAPI_CALL waitIdle(VkDevice handle) {
    DeviceData& device = deviceOf(handle);
    const VkResult result = device.get<PFN_vkDeviceWaitIdle>("vkDeviceWaitIdle")(handle);
    return device.lost ? VK_ERROR_DEVICE_LOST : result;
}

// Every call of this list has the layer's plain treatment: COUNTED may fail, MADE may fail and
// gives an object, DESTROYED takes it back.
#define NIBBLE_COUNTED(X)                                                                          \
    X(vkBindBufferMemory, Bind)                                                                    \
    X(vkAllocateDescriptorSets, Create)                                                            \
    X(vkAllocateCommandBuffers, Create)                                                            \
    X(vkEndCommandBuffer, Create)                                                                  \
    X(vkResetFences, Create)
#define NIBBLE_MADE(X)                                                                             \
    X(vkCreateBuffer)                                                                              \
    X(vkCreateDescriptorSetLayout)                                                                 \
    X(vkCreatePipelineLayout)                                                                      \
    X(vkCreatePipelineCache)                                                                       \
    X(vkCreateDescriptorPool)                                                                      \
    X(vkCreateCommandPool)                                                                         \
    X(vkCreateFence)
#define NIBBLE_DESTROYED(X)                                                                        \
    X(vkDestroyBuffer)                                                                             \
    X(vkDestroyDescriptorSetLayout)                                                                \
    X(vkDestroyPipelineLayout)                                                                     \
    X(vkDestroyPipelineCache)                                                                      \
    X(vkDestroyDescriptorPool)                                                                     \
    X(vkDestroyCommandPool)                                                                        \
    X(vkDestroyFence)                                                                              \
    X(vkDestroyShaderModule)                                                                       \
    X(vkDestroyPipeline)

// A template argument may not be a string literal, but it may be an array.
#define NIBBLE_NAME(vk, ...) constexpr char k_##vk[] = #vk;
NIBBLE_COUNTED(NIBBLE_NAME)
NIBBLE_MADE(NIBBLE_NAME)
NIBBLE_DESTROYED(NIBBLE_NAME)

#define NIBBLE_COUNTED_ROW(vk, kind)                                                               \
    intercept(#vk, Counted<PFN_##vk, k_##vk, VulkanCall::kind>::call),
#define NIBBLE_MADE_ROW(vk) intercept(#vk, Made<PFN_##vk, k_##vk>::call),
#define NIBBLE_DESTROYED_ROW(vk) intercept(#vk, Destroyed<PFN_##vk, k_##vk>::call),

const std::vector<Intercept>& deviceCalls() {
    static const std::vector<Intercept> calls = {
        NIBBLE_COUNTED(NIBBLE_COUNTED_ROW) NIBBLE_MADE(NIBBLE_MADE_ROW)
            NIBBLE_DESTROYED(NIBBLE_DESTROYED_ROW) intercept("vkGetDeviceProcAddr", getDeviceProc),
        intercept("vkDestroyDevice", destroyDevice),
        intercept("vkAllocateMemory", allocateMemory),
        intercept("vkFreeMemory", freeMemory),
        intercept("vkMapMemory", mapMemory),
        intercept("vkGetBufferMemoryRequirements", getBufferNeeds),
        intercept("vkUpdateDescriptorSets", updateSets),
        intercept("vkCreateShaderModule", createModule),
        intercept("vkCreateComputePipelines", createPipelines),
        intercept("vkBeginCommandBuffer", beginCommands),
        intercept("vkCmdBindPipeline", bindPipeline),
        intercept("vkCmdDispatch", dispatch),
        intercept("vkCmdDispatchBase", dispatchBase),
        intercept("vkQueueSubmit", submit),
        intercept("vkWaitForFences", waitForFences),
        intercept("vkDeviceWaitIdle", waitIdle),
    };
    return calls;
}

} // namespace

void forgetExecuted() {
    const std::lock_guard lock(g_mutex);
    g_executed.clear();
}

uint64_t VulkanLayer::executedOf(std::span<const uint32_t> words) {
    const std::lock_guard lock(g_mutex);
    const auto found = g_executed.find(hashOf(words.data(), words.size()));
    return found == g_executed.end() ? 0 : found->second;
}

void addDevice(VkDevice handle, PFN_vkGetDeviceProcAddr next) {
    auto device = std::make_unique<DeviceData>();
    device->handle = handle;
    device->next = next;
    device->discrete = vulkanLayer().discrete;
    const std::lock_guard lock(g_mutex);
    g_devices[dispatchKey(handle)] = std::move(device);
}

PFN_vkVoidFunction findDeviceCall(const char* name) {
    const auto& calls = deviceCalls();
    const auto found = std::find_if(calls.begin(), calls.end(), [&](const Intercept& one) {
        return std::strcmp(one.name, name) == 0;
    });
    return found == calls.end() ? nullptr : found->function;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL getDeviceProc(VkDevice device, const char* name) {
    if (const auto function = findDeviceCall(name))
        return function;
    return deviceOf(device).next(device, name);
}

} // namespace nibble::test
