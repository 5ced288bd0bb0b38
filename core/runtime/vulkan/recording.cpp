#include "core/runtime/vulkan/recording.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

/// The first pool of a recording is small, as a call that runs a part of a layer takes few sets.
constexpr uint32_t kFirstSets = 16, kMostSets = 128;
constexpr uint64_t kUnusedEach = 256;

} // namespace

Recording::Recording(std::shared_ptr<VulkanDevice> device, std::shared_ptr<Pipelines> pipelines,
                     BufferView unused, int32_t longestContext)
    : m_device(std::move(device)), m_pipelines(std::move(pipelines)), m_unused(unused),
      m_pieceWork(m_device->pieceWork()), m_longestContext(longestContext) {
    beginPiece();
}

void Recording::beginPiece() {
    VkCommandBufferAllocateInfo allocate{};
    allocate.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
    allocate.commandPool = m_device->commandPool();
    allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
    allocate.commandBufferCount = 1;
    VkCommandBuffer commands = VK_NULL_HANDLE;
    checkVulkan(m_device->api().vkAllocateCommandBuffers(m_device->handle(), &allocate, &commands),
                "vkAllocateCommandBuffers");
    VkCommandBufferBeginInfo begin{};
    begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
    const VkResult begun = m_device->api().vkBeginCommandBuffer(commands, &begin);
    if (begun != VK_SUCCESS)
        m_device->api().vkFreeCommandBuffers(m_device->handle(), m_device->commandPool(), 1,
                                             &commands);
    checkVulkan(begun, "vkBeginCommandBuffer");
    m_pieces.push_back({commands});
}

void Recording::endPiece() {
    checkVulkan(m_device->api().vkEndCommandBuffer(commands()), "vkEndCommandBuffer");
}

Recording::~Recording() {
    const VolkDeviceTable& api = m_device->api();
    for (VkDescriptorPool pool : m_pools)
        api.vkDestroyDescriptorPool(m_device->handle(), pool, nullptr);
    api.vkDestroyQueryPool(m_device->handle(), m_stamps, nullptr);
    for (const Piece& piece : m_pieces)
        api.vkFreeCommandBuffers(m_device->handle(), m_device->commandPool(), 1, &piece.commands);
}

VkDescriptorSet Recording::newSet() {
    const VolkDeviceTable& api = m_device->api();
    if (m_setsLeft == 0) {
        const uint32_t sets =
            std::min(kFirstSets << std::min(m_pools.size(), size_t(3)), kMostSets);
        const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, sets * kKernelBuffers};
        VkDescriptorPoolCreateInfo info{};
        info.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
        info.maxSets = sets;
        info.poolSizeCount = 1;
        info.pPoolSizes = &size;
        VkDescriptorPool pool = VK_NULL_HANDLE;
        checkVulkan(api.vkCreateDescriptorPool(m_device->handle(), &info, nullptr, &pool),
                    "vkCreateDescriptorPool");
        m_pools.push_back(pool);
        m_setsLeft = sets;
    }
    const VkDescriptorSetLayout layout = m_pipelines->setLayout();
    VkDescriptorSetAllocateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
    info.descriptorPool = m_pools.back();
    info.descriptorSetCount = 1;
    info.pSetLayouts = &layout;
    VkDescriptorSet set = VK_NULL_HANDLE;
    checkVulkan(api.vkAllocateDescriptorSets(m_device->handle(), &info, &set),
                "vkAllocateDescriptorSets");
    --m_setsLeft;
    return set;
}

/// A range of its own for each binding that a kernel leaves alone: sharing one between dispatches
/// of an interval would look like a hazard to the validation layer.
BufferView Recording::unusedView() {
    BufferView view = m_unused;
    view.size = kUnusedEach;
    view.offset += m_nextUnused * kUnusedEach;
    m_nextUnused = (m_nextUnused + 1) % (kUnusedBytes / kUnusedEach);
    return view;
}

void Recording::dispatch(const Dispatch& d) {
    const VolkDeviceTable& api = m_device->api();
    const VkPipeline pipeline = m_pipelines->get(d.module, d.constants);
    const VkDescriptorSet set = newSet();
    std::array<VkDescriptorBufferInfo, kKernelBuffers> buffers{};
    std::array<VkWriteDescriptorSet, kKernelBuffers> writes{};
    for (uint32_t i = 0; i < kKernelBuffers; ++i) {
        const BufferView view = d.buffers[i].buffer ? d.buffers[i] : unusedView();
        buffers[i] = {view.buffer, view.offset, view.size};
        writes[i].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
        writes[i].dstSet = set;
        writes[i].dstBinding = i;
        writes[i].descriptorCount = 1;
        writes[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
        writes[i].pBufferInfo = &buffers[i];
    }
    api.vkUpdateDescriptorSets(m_device->handle(), kKernelBuffers, writes.data(), 0, nullptr);
    api.vkCmdBindPipeline(commands(), VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    api.vkCmdBindDescriptorSets(commands(), VK_PIPELINE_BIND_POINT_COMPUTE, m_pipelines->layout(),
                                0, 1, &set, 0, nullptr);
    api.vkCmdPushConstants(commands(), m_pipelines->layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0,
                           kPushBytes, d.push.data());
    // A long one in parts of its rows, which need not wait for each other.
    const double work = d.work + d.workPerToken * m_longestContext;
    const auto parts =
        static_cast<uint32_t>(std::clamp(std::ceil(work / m_pieceWork), 1.0, double(d.y)));
    for (uint32_t part = 0; part < parts; ++part) {
        const auto begin = static_cast<uint32_t>(uint64_t(d.y) * part / parts);
        const auto end = static_cast<uint32_t>(uint64_t(d.y) * (part + 1) / parts);
        api.vkCmdDispatchBase(commands(), 0, begin, 0, d.x, end - begin, 1);
    }
    m_pieces.back().work += d.work;
    m_pieces.back().workPerToken += d.workPerToken;
    ++m_dispatches;
}

void Recording::copy(BufferView from, BufferView to, uint64_t bytes) {
    const VkBufferCopy region{from.offset, to.offset, bytes};
    m_device->api().vkCmdCopyBuffer(commands(), from.buffer, to.buffer, 1, &region);
}

void Recording::barrier() {
    VkMemoryBarrier memory{};
    memory.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
    memory.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    memory.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                           VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    constexpr VkPipelineStageFlags kStages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    m_device->api().vkCmdPipelineBarrier(commands(), kStages, kStages, 0, 1, &memory, 0, nullptr, 0,
                                         nullptr);
    ++m_barriers;
    // The barrier holds across command buffers too: what is submitted later comes after it.
    const Piece& piece = m_pieces.back();
    if (piece.work + piece.workPerToken * m_longestContext >= m_pieceWork) {
        endPiece();
        beginPiece();
    }
}

void Recording::finish() {
    VkMemoryBarrier memory{};
    memory.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
    memory.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    memory.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
    m_device->api().vkCmdPipelineBarrier(
        commands(), VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
        VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &memory, 0, nullptr, 0, nullptr);
    endPiece();
}

void Recording::run(int32_t tokens) {
    std::vector<VulkanDevice::Piece> pieces;
    pieces.reserve(m_pieces.size());
    for (const Piece& piece : m_pieces)
        pieces.push_back({piece.commands, piece.work + piece.workPerToken * tokens});
    m_device->run(pieces);
}

void Recording::stamp() {
    const VolkDeviceTable& api = m_device->api();
    if (!m_device->hasClock() || m_stampCount == kStamps)
        return;
    if (!m_stamps) {
        VkQueryPoolCreateInfo info{};
        info.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO;
        info.queryType = VK_QUERY_TYPE_TIMESTAMP;
        info.queryCount = kStamps;
        checkVulkan(api.vkCreateQueryPool(m_device->handle(), &info, nullptr, &m_stamps),
                    "vkCreateQueryPool");
        api.vkCmdResetQueryPool(commands(), m_stamps, 0, kStamps);
    }
    api.vkCmdWriteTimestamp(commands(), VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, m_stamps,
                            m_stampCount++);
}

std::vector<double> Recording::stampedMicroseconds() const {
    std::vector<double> spans;
    if (m_stampCount < 2)
        return spans;
    std::vector<uint64_t> ticks(m_stampCount);
    checkVulkan(m_device->api().vkGetQueryPoolResults(
                    m_device->handle(), m_stamps, 0, m_stampCount, ticks.size() * 8, ticks.data(),
                    8, VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
                "vkGetQueryPoolResults");
    for (size_t i = 1; i < ticks.size(); ++i)
        spans.push_back(static_cast<double>(ticks[i] - ticks[i - 1]) *
                        double(m_device->limits().timestampPeriod) * 1e-3);
    return spans;
}

} // namespace nibble
