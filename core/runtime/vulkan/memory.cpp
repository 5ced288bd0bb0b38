#include "core/runtime/vulkan/memory.h"

#include "core/base/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace nibble {
namespace {

constexpr uint64_t kSmallestSlab = uint64_t(1) << 20, kLargestSlab = uint64_t(64) << 20;

std::string sizeText(uint64_t bytes) {
    return bytes < 1'000'000 ? fmt::format("{} KB", (bytes + 999) / 1000)
                             : fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6);
}

/// Bytes of a new slab. What fills a good part of a shared one gets its own, of just its size;
/// a shared one is a small part of what there is already. So the unused rest of all slabs stays
/// within the error that the memory ledger allows, and their number far below 4096.
uint64_t slabBytes(uint64_t request, uint64_t total) {
    const uint64_t shared = std::clamp(total / 64, kSmallestSlab, kLargestSlab);
    return request >= shared / 4 ? request : shared;
}

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

void MemoryPool::freeSlab(Slab& slab) const {
    const VolkDeviceTable& api = m_device->api();
    api.vkDestroyBuffer(m_device->handle(), slab.buffer, nullptr);
    api.vkFreeMemory(m_device->handle(), slab.memory, nullptr);
}

void MemoryPool::destroySlab(Slab& slab) {
    freeSlab(slab);
    m_total -= slab.size;
    VulkanDevice::hold(-static_cast<int64_t>(slab.size));
    slab = {};
}

/// What a kind of memory must be, and what it had better be.
uint32_t MemoryPool::memoryType(uint32_t allowed, bool near) const {
    constexpr VkMemoryPropertyFlags kHost =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (m_kind == Kind::Host)
        return m_device->memoryType(allowed, kHost, VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    if (m_kind == Kind::Written)
        return m_device->memoryType(allowed, kHost, near ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT : 0);
    return m_device->memoryType(allowed, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                m_device->sharesHostMemory() ? kHost : 0);
}

VkResult MemoryPool::makeSlab(Slab& slab, bool near) const {
    const VolkDeviceTable& api = m_device->api();
    const VkDevice device = m_device->handle();
    VkBufferCreateInfo buffer{};
    buffer.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
    buffer.size = slab.size;
    buffer.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                   VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    VkResult result = api.vkCreateBuffer(device, &buffer, nullptr, &slab.buffer);
    if (result != VK_SUCCESS)
        return result;
    VkMemoryRequirements needs;
    api.vkGetBufferMemoryRequirements(device, slab.buffer, &needs);
    VkMemoryAllocateInfo allocate{};
    allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
    allocate.allocationSize = needs.size;
    allocate.memoryTypeIndex = memoryType(needs.memoryTypeBits, near);
    result = api.vkAllocateMemory(device, &allocate, nullptr, &slab.memory);
    if (result == VK_SUCCESS)
        result = api.vkBindBufferMemory(device, slab.buffer, slab.memory, 0);
    if (result != VK_SUCCESS || (m_kind == Kind::Device && !m_device->sharesHostMemory()))
        return result;
    void* mapped = nullptr;
    result = api.vkMapMemory(device, slab.memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    slab.mapped = static_cast<std::byte*>(mapped);
    // The device's memory may be out of the host's sight: uploads then go through a copy.
    return m_kind == Kind::Device && result == VK_ERROR_MEMORY_MAP_FAILED ? VK_SUCCESS : result;
}

void MemoryPool::failedSlab(VkResult result, uint64_t bytes, const char* what) const {
    if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY && result != VK_ERROR_OUT_OF_HOST_MEMORY &&
        result != VK_ERROR_MEMORY_MAP_FAILED)
        checkVulkan(result, "vkAllocateMemory");
    const DeviceInfo info = m_device->info();
    const uint64_t held = VulkanDevice::heldBytes();
    const uint64_t free =
        info.freeKnown ? info.freeBytes : info.memoryBytes - std::min(info.memoryBytes, held);
    constexpr const char* kAdvice = "choose a smaller level or context, or leave layers to the CPU";
    if (bytes > free)
        fail(ErrorKind::OutOfMemory, "{} needs {} on {}, which has {} of {} left, {} too few; {}.",
             what, sizeText(bytes), info.name, sizeText(free), sizeText(info.memoryBytes),
             sizeText(bytes - free), kAdvice);
    fail(ErrorKind::OutOfMemory, "{} needs {} on {}, whose driver gives no more after {}; {}.",
         what, sizeText(bytes), info.name, sizeText(held), kAdvice);
}

size_t MemoryPool::addSlab(uint64_t bytes, const char* what) {
    Slab slab;
    slab.size = slabBytes(bytes, m_total);
    if (const uint64_t limit = VulkanDevice::memoryLimit()) {
        const uint64_t held = VulkanDevice::heldBytes(), left = limit - std::min(limit, held);
        if (slab.size > left) // a shared slab is larger than what was asked for
            slab.size = std::max(bytes, std::min(slab.size, left));
        if (slab.size > left)
            failedSlab(VK_ERROR_OUT_OF_DEVICE_MEMORY, slab.size, what);
    }
    try {
        VkResult result = makeSlab(slab, true);
        // The part of a card's memory that the host sees may be small, and full.
        if (m_kind == Kind::Written && result != VK_SUCCESS && !m_device->sharesHostMemory()) {
            freeSlab(slab);
            const uint64_t size = slab.size;
            slab = {};
            slab.size = size;
            result = makeSlab(slab, false);
        }
        if (result != VK_SUCCESS)
            failedSlab(result, slab.size, what);
    } catch (...) {
        freeSlab(slab);
        throw;
    }
    slab.free[0] = slab.size;
    m_total += slab.size;
    VulkanDevice::hold(static_cast<int64_t>(slab.size));
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
