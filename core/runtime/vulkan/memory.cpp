#include "core/runtime/vulkan/memory.h"

#include "core/base/error.h"

#include <algorithm>
#include <utility>

namespace nibble {
namespace {

constexpr uint64_t kSmallestSlab = uint64_t(1) << 20, kLargestSlab = uint64_t(64) << 20;

} // namespace

Allocation& Allocation::operator=(Allocation&& other) noexcept {
    if (this != &other) {
        release();
        m_pool = std::move(other.m_pool);
        m_slab = other.m_slab;
        m_buffer = std::exchange(other.m_buffer, VK_NULL_HANDLE);
        m_offset = other.m_offset;
        m_size = std::exchange(other.m_size, 0);
        m_mapped = std::exchange(other.m_mapped, nullptr);
    }
    return *this;
}

void Allocation::release() {
    if (m_pool)
        m_pool->release(m_slab, m_offset, m_size);
    m_pool.reset();
}

MemoryPool::MemoryPool(std::shared_ptr<VulkanDevice> device, Kind kind)
    : m_device(std::move(device)), m_kind(kind) {}

MemoryPool::~MemoryPool() {
    for (Slab& slab : m_slabs)
        destroySlab(slab);
}

void MemoryPool::destroySlab(Slab& slab) {
    const VolkDeviceTable& api = m_device->api();
    api.vkDestroyBuffer(m_device->handle(), slab.buffer, nullptr);
    api.vkFreeMemory(m_device->handle(), slab.memory, nullptr);
    m_total -= slab.size;
    slab = {};
}

size_t MemoryPool::addSlab(uint64_t bytes, const char* what) {
    const VolkDeviceTable& api = m_device->api();
    Slab slab;
    slab.size = std::max(bytes, std::clamp(m_total / 16, kSmallestSlab, kLargestSlab));
    VkBufferCreateInfo buffer{};
    buffer.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
    buffer.size = slab.size;
    buffer.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                   VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    VkResult result = api.vkCreateBuffer(m_device->handle(), &buffer, nullptr, &slab.buffer);
    if (result == VK_SUCCESS) {
        VkMemoryRequirements needs;
        api.vkGetBufferMemoryRequirements(m_device->handle(), slab.buffer, &needs);
        constexpr VkMemoryPropertyFlags kHost =
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
        const bool shares = m_device->sharesHostMemory();
        VkMemoryAllocateInfo allocate{};
        allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
        allocate.allocationSize = needs.size;
        allocate.memoryTypeIndex =
            m_kind == Kind::Host
                ? m_device->memoryType(needs.memoryTypeBits, kHost,
                                       VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
                : m_device->memoryType(needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                       shares ? kHost : 0);
        result = api.vkAllocateMemory(m_device->handle(), &allocate, nullptr, &slab.memory);
        if (result == VK_SUCCESS) {
            checkVulkan(api.vkBindBufferMemory(m_device->handle(), slab.buffer, slab.memory, 0),
                        "vkBindBufferMemory");
            void* mapped = nullptr;
            if ((m_kind == Kind::Host || shares) &&
                api.vkMapMemory(m_device->handle(), slab.memory, 0, VK_WHOLE_SIZE, 0, &mapped) ==
                    VK_SUCCESS)
                slab.mapped = static_cast<std::byte*>(mapped);
        }
    }
    if (result != VK_SUCCESS) {
        api.vkDestroyBuffer(m_device->handle(), slab.buffer, nullptr);
        if (result == VK_ERROR_DEVICE_LOST)
            checkVulkan(result, "vkAllocateMemory");
        const DeviceInfo info = m_device->info();
        fail(ErrorKind::OutOfMemory,
             "{} needs {:.1f} MB on {}, which has {:.0f} MB of {:.0f} MB left; choose a smaller "
             "level or context, or leave layers to the CPU.",
             what, static_cast<double>(bytes) * 1e-6, info.name,
             static_cast<double>(info.freeBytes) * 1e-6,
             static_cast<double>(info.memoryBytes) * 1e-6);
    }
    slab.free[0] = slab.size;
    m_total += slab.size;
    for (size_t i = 0; i < m_slabs.size(); ++i)
        if (!m_slabs[i].buffer) {
            m_slabs[i] = std::move(slab);
            return i;
        }
    m_slabs.push_back(std::move(slab));
    return m_slabs.size() - 1;
}

Allocation MemoryPool::allocate(uint64_t bytes, const char* what) {
    // 256: the largest minStorageBufferOffsetAlignment that Vulkan allows.
    constexpr uint64_t kAlignment = 256;
    const uint64_t size =
        (std::max<uint64_t>(bytes, 16) + kAlignment - 1) / kAlignment * kAlignment;
    size_t index = 0;
    const auto fits = [&](const auto& hole) { return hole.second >= size; };
    for (; index < m_slabs.size(); ++index)
        if (std::any_of(m_slabs[index].free.begin(), m_slabs[index].free.end(), fits))
            break;
    if (index == m_slabs.size())
        index = addSlab(size, what);
    Slab& slab = m_slabs[index];
    const auto hole = std::find_if(slab.free.begin(), slab.free.end(), fits);
    const auto [offset, length] = *hole;
    slab.free.erase(hole);
    if (length > size)
        slab.free[offset + size] = length - size;
    Allocation result;
    result.m_pool = shared_from_this();
    result.m_slab = index;
    result.m_buffer = slab.buffer;
    result.m_offset = offset;
    result.m_size = size;
    result.m_mapped = slab.mapped ? slab.mapped + offset : nullptr;
    return result;
}

void MemoryPool::release(size_t index, uint64_t offset, uint64_t size) {
    Slab& slab = m_slabs[index];
    auto next = slab.free.lower_bound(offset);
    if (next != slab.free.end() && offset + size == next->first) {
        size += next->second;
        next = slab.free.erase(next);
    }
    if (next != slab.free.begin())
        if (auto before = std::prev(next); before->first + before->second == offset) {
            before->second += size;
            offset = before->first;
            size = before->second;
        }
    slab.free[offset] = size;
    if (size == slab.size)
        destroySlab(slab);
}

} // namespace nibble
