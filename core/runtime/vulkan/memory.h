#pragma once

#include "core/runtime/vulkan/device.h"

#include <map>

namespace nibble {

class MemoryPool;

/// A range of a buffer; given back when destroyed.
class Allocation {
public:
    Allocation() = default;
    Allocation(Allocation&& other) noexcept { *this = std::move(other); }
    Allocation& operator=(Allocation&& other) noexcept;
    ~Allocation() { release(); }

    VkBuffer buffer() const { return m_buffer; }
    VkDeviceSize offset() const { return m_offset; }
    VkDeviceSize size() const { return m_size; }
    /// The bytes as the host sees them; null in memory that it does not see.
    std::byte* mapped() const { return m_mapped; }
    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(m_mapped);
    }
    explicit operator bool() const { return m_buffer != VK_NULL_HANDLE; }

private:
    friend class MemoryPool;
    void release();

    std::shared_ptr<MemoryPool> m_pool;
    size_t m_slab = 0;
    VkBuffer m_buffer = VK_NULL_HANDLE;
    VkDeviceSize m_offset = 0, m_size = 0;
    std::byte* m_mapped = nullptr;
};

/// Sub-allocates buffers from slabs of one kind of memory: the device's; the host's; or what the
/// host only writes and the device reads in every step, in the device's memory where the host sees
/// it.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
public:
    enum class Kind : uint8_t { Device, Host, Written };
    MemoryPool(std::shared_ptr<VulkanDevice> device, Kind kind);
    ~MemoryPool();
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;

    /// `bytes` (at least 16) rounded up to the device's alignment; Error{OutOfMemory}.
    Allocation allocate(uint64_t bytes, const char* what);
    /// Bytes of the largest allocation that a kernel can see whole.
    uint64_t largestBinding() const { return m_device->limits().maxStorageBufferRange; }

private:
    friend class Allocation;
    struct Slab {
        VkDeviceMemory memory = VK_NULL_HANDLE;
        VkBuffer buffer = VK_NULL_HANDLE;
        std::byte* mapped = nullptr;
        uint64_t size = 0;
        std::map<uint64_t, uint64_t> free; ///< offset → length
    };
    uint32_t memoryType(uint32_t allowed, bool near) const;
    size_t addSlab(uint64_t bytes, const char* what);
    VkResult makeSlab(Slab& slab, bool near) const;
    [[noreturn]] void failedSlab(VkResult result, uint64_t bytes, const char* what) const;
    void freeSlab(Slab& slab) const;
    void destroySlab(Slab& slab);
    void release(size_t slab, uint64_t offset, uint64_t size);

    std::shared_ptr<VulkanDevice> m_device;
    Kind m_kind;
    uint64_t m_total = 0;
    std::vector<Slab> m_slabs;
};

} // namespace nibble
