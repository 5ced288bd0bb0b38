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
    /// What it costs in multiply-adds, for a device that must answer in time: in itself, and for
    /// each token that a row attends to.
    double work = 0, workPerToken = 0;

    template <typename T>
    void setArguments(const T& arguments) {
        static_assert(sizeof(T) <= kPushBytes);
        std::memcpy(push.data(), &arguments, sizeof(T));
    }
};

/// Commands with their descriptor sets, recorded once and run any number of times: in pieces, so
/// that the device answers in time for its driver (VulkanDevice::run).
class Recording {
public:
    static constexpr uint64_t kUnusedBytes = 64 * 1024;
    static constexpr uint32_t kStamps = 4096;
    /// `unused` (kUnusedBytes) fills the bindings that kernels leave alone.
    /// No row attends to more than `longestContext` tokens.
    Recording(std::shared_ptr<VulkanDevice> device, std::shared_ptr<Pipelines> pipelines,
              BufferView unused, int32_t longestContext = 0);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void dispatch(const Dispatch& dispatch);
    void copy(BufferView from, BufferView to, uint64_t bytes);
    /// Everything before is finished and visible to everything after.
    void barrier();
    void finish();
    /// `tokens`: the most that a row attends to.
    void run(int32_t tokens = 0);

    /// The device's clock once everything before is done; at most kStamps times.
    void stamp();
    /// Microseconds between neighbouring stamps of the last run; empty where the device has no
    /// clock.
    std::vector<double> stampedMicroseconds() const;

    int barriers() const { return m_barriers; }
    int dispatches() const { return m_dispatches; }

private:
    struct Piece {
        VkCommandBuffer commands = VK_NULL_HANDLE;
        double work = 0, workPerToken = 0;
    };
    void beginPiece();
    void endPiece();
    VkCommandBuffer commands() const { return m_pieces.back().commands; }
    VkDescriptorSet newSet();
    BufferView unusedView();

    std::shared_ptr<VulkanDevice> m_device;
    std::shared_ptr<Pipelines> m_pipelines;
    BufferView m_unused;
    std::vector<Piece> m_pieces;
    double m_pieceWork = 0;       ///< at which a piece ends
    int32_t m_longestContext = 0; ///< for which dispatches are split
    std::vector<VkDescriptorPool> m_pools;
    uint32_t m_setsLeft = 0;
    VkQueryPool m_stamps = VK_NULL_HANDLE;
    uint32_t m_stampCount = 0;
    uint64_t m_nextUnused = 0;
    int m_barriers = 0, m_dispatches = 0;
};

} // namespace nibble
