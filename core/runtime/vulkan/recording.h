#pragma once

#include "core/runtime/vulkan/memory.h"
#include "core/runtime/vulkan/pipelines.h"

#include <cstring>

namespace nibble {

/// Part of an allocation that a kernel sees.
struct BufferView {
    VkBuffer buffer = VK_NULL_HANDLE;
    VkDeviceSize offset = 0, size = 0;
    BufferView() = default;
    BufferView(const Allocation& a) : buffer(a.buffer()), offset(a.offset()), size(a.size()) {}
};

/// One kernel call.
struct Dispatch {
    std::string module;
    KernelConstants constants;
    std::array<BufferView, kKernelBuffers> buffers;
    std::array<uint32_t, kPushBytes / 4> push{};
    uint32_t x = 1, y = 1;

    template <typename T>
    void setArguments(const T& arguments) {
        static_assert(sizeof(T) <= kPushBytes);
        std::memcpy(push.data(), &arguments, sizeof(T));
    }
};

/// A command buffer with its descriptor sets, recorded once and run any number of times.
class Recording {
public:
    static constexpr uint64_t kUnusedBytes = 64 * 1024;
    static constexpr uint32_t kStamps = 4096;
    /// `unused` (kUnusedBytes) fills the bindings that kernels leave alone.
    Recording(std::shared_ptr<VulkanDevice> device, std::shared_ptr<Pipelines> pipelines,
              BufferView unused);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void dispatch(const Dispatch& dispatch);
    void copy(BufferView from, BufferView to, uint64_t bytes);
    /// Everything before is finished and visible to everything after.
    void barrier();
    void finish();
    void run();

    /// The device's clock once everything before is done; at most kStamps times.
    void stamp();
    /// Microseconds between neighbouring stamps of the last run; empty where the device has no
    /// clock.
    std::vector<double> stampedMicroseconds() const;

    int barriers() const { return m_barriers; }
    int dispatches() const { return m_dispatches; }

private:
    VkDescriptorSet newSet();
    BufferView unusedView();

    std::shared_ptr<VulkanDevice> m_device;
    std::shared_ptr<Pipelines> m_pipelines;
    BufferView m_unused;
    VkCommandBuffer m_commands = VK_NULL_HANDLE;
    std::vector<VkDescriptorPool> m_pools;
    uint32_t m_setsLeft = 0;
    VkQueryPool m_stamps = VK_NULL_HANDLE;
    uint32_t m_stampCount = 0;
    uint64_t m_nextUnused = 0;
    int m_barriers = 0, m_dispatches = 0;
};

} // namespace nibble
