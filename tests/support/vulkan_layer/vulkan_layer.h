#pragma once

#include <atomic>
#include <cstdint>
#include <span>

/// A Vulkan layer that sits between the program and the driver: it counts, and on request it lets
/// calls fail or reports less than the device has. The program under test knows nothing of it; the
/// loader puts it in (vulkan_layer_support.h, or VK_INSTANCE_LAYERS for a child process).
namespace nibble::test {

/// Calls that may fail. Any counts all of them together.
enum class VulkanCall : int { Any, Submit, Wait, Allocate, Bind, Map, Create, Count };

struct VulkanLayer {
    static constexpr int kCalls = static_cast<int>(VulkanCall::Count);

    // Counts since reset(); what is alive is not reset.
    std::atomic<uint64_t> dispatchesRecorded{0}; ///< vkCmdDispatch, -Base
    std::atomic<uint64_t> dispatchesExecuted{0}; ///< those of submitted command buffers
    std::atomic<uint64_t> calls[kCalls]{};
    std::atomic<int64_t> liveBytes{0}, peakBytes{0}; ///< of vkAllocateMemory
    std::atomic<int64_t> liveObjects{
        0}; ///< buffers, memory, pipelines, pools, devices, instances …

    // Faults: the failAt-th call of a kind from now on returns `result`; 0 = none. After
    // VK_ERROR_DEVICE_LOST the device stays lost.
    std::atomic<uint64_t> failAt[kCalls]{};
    std::atomic<int> result[kCalls]{};
    std::atomic<uint64_t> budget{0}; ///< vkAllocateMemory fails beyond so many live bytes; 0 = none
    std::atomic<uint64_t> faults{0}; ///< how many calls were made to fail
    /// What the program must not do: bind more than the storage range, map what it cannot see.
    std::atomic<uint64_t> violations{0};

    // What the device is said to have; 0 = what it has.
    std::atomic<uint64_t> storageRange{0};   ///< maxStorageBufferRange
    std::atomic<uint64_t> allocationSize{0}; ///< maxMemoryAllocationSize
    /// A discrete GPU: its memory is not visible to the host, which has a type of its own.
    std::atomic<bool> discrete{false};

    void failCall(VulkanCall call, uint64_t number, int vkResult);
    /// Counts from 0, without faults, with the device's own limits.
    void reset();
    /// Executed dispatches of pipelines made from exactly this SPIR-V.
    uint64_t executedOf(std::span<const uint32_t> words);
};

/// The one in this process; the loader's copy of the library is the same one.
VulkanLayer& vulkanLayer();

} // namespace nibble::test
