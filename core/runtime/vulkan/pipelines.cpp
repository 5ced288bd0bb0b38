#include "core/runtime/vulkan/pipelines.h"

#include "core/base/error.h"
#include "core/runtime/vulkan/matrix_form.h"
#include "core/runtime/vulkan/specialize.h"
#include "vulkan_kernels/include/kernel_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

namespace nibble {
namespace {

/// A test's planted fault: NIBBLE_VULKAN_CORRUPT=module:id=value gives every pipeline of a module a
/// wrong specialization constant, so that the doctor has something to find.
void plantFault(const std::string& module, KernelConstants& constants) {
    const char* fault = std::getenv("NIBBLE_VULKAN_CORRUPT");
    if (!fault)
        return;
    const std::string_view text = fault;
    const size_t colon = text.find(':'), equals = text.find('=');
    if (colon == text.npos || equals == text.npos || text.substr(0, colon) != module)
        return;
    const std::string id(text.substr(colon + 1, equals - colon - 1)),
        value(text.substr(equals + 1));
    constants[static_cast<uint32_t>(std::strtoul(id.c_str(), nullptr, 10))] =
        static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
}

} // namespace

Pipelines::Pipelines(std::shared_ptr<VulkanDevice> device) : m_device(std::move(device)) {
    try {
        makeLayouts();
    } catch (...) {
        destroy();
        throw;
    }
}

void Pipelines::makeLayouts() {
    const VolkDeviceTable& api = m_device->api();
    std::array<VkDescriptorSetLayoutBinding, kKernelBuffers> bindings{};
    for (uint32_t i = 0; i < kKernelBuffers; ++i)
        bindings[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT,
                       nullptr};
    VkDescriptorSetLayoutCreateInfo set{};
    set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
    set.bindingCount = kKernelBuffers;
    set.pBindings = bindings.data();
    checkVulkan(api.vkCreateDescriptorSetLayout(m_device->handle(), &set, nullptr, &m_setLayout),
                "vkCreateDescriptorSetLayout");
    const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes};
    VkPipelineLayoutCreateInfo layout{};
    layout.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
    layout.setLayoutCount = 1;
    layout.pSetLayouts = &m_setLayout;
    layout.pushConstantRangeCount = 1;
    layout.pPushConstantRanges = &push;
    checkVulkan(api.vkCreatePipelineLayout(m_device->handle(), &layout, nullptr, &m_layout),
                "vkCreatePipelineLayout");
    VkPipelineCacheCreateInfo cache{};
    cache.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
    checkVulkan(api.vkCreatePipelineCache(m_device->handle(), &cache, nullptr, &m_cache),
                "vkCreatePipelineCache");
}

Pipelines::~Pipelines() {
    destroy();
}

void Pipelines::destroy() {
    const VolkDeviceTable& api = m_device->api();
    for (const auto& [key, pipeline] : m_pipelines)
        api.vkDestroyPipeline(m_device->handle(), pipeline, nullptr);
    for (const auto& [name, module] : m_shaders)
        api.vkDestroyShaderModule(m_device->handle(), module, nullptr);
    api.vkDestroyPipelineCache(m_device->handle(), m_cache, nullptr);
    api.vkDestroyPipelineLayout(m_device->handle(), m_layout, nullptr);
    api.vkDestroyDescriptorSetLayout(m_device->handle(), m_setLayout, nullptr);
}

namespace {

std::span<const uint32_t> wordsOf(const std::string& name) {
    for (const kernels::KernelModule& module : kernels::kernelModules())
        if (module.name == name)
            return module.words;
    fail(ErrorKind::Internal, "This build has no kernel \"{}\".", name);
}

VkShaderModule makeShader(const VulkanDevice& device, std::span<const uint32_t> words) {
    VkShaderModuleCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
    info.codeSize = words.size_bytes();
    info.pCode = words.data();
    VkShaderModule shader = VK_NULL_HANDLE;
    checkVulkan(device.api().vkCreateShaderModule(device.handle(), &info, nullptr, &shader),
                "vkCreateShaderModule");
    return shader;
}

} // namespace

bool Pipelines::hasModule(std::string_view name) {
    const auto modules = kernels::kernelModules();
    return std::any_of(modules.begin(), modules.end(),
                       [&](const kernels::KernelModule& m) { return m.name == name; });
}

std::vector<uint32_t> withoutUnrolling(std::span<const uint32_t> words) {
    constexpr uint32_t kLoopMerge = 246, kUnroll = 1;
    std::vector<uint32_t> module(words.begin(), words.end());
    for (size_t at = 5; at + 3 < module.size(); at += std::max(module[at] >> 16, 1u))
        if ((module[at] & 0xffffu) == kLoopMerge)
            module[at + 3] &= ~kUnroll;
    return module;
}

/// A module as the device takes it.
std::vector<uint32_t> Pipelines::formOf(const std::string& name) const {
    const std::span<const uint32_t> words = wordsOf(name);
    if (name == "product_matrix" && m_device->features().matrix == VulkanFeatures::Matrix::Khr)
        return toKhrMatrices(words);
    if (!m_device->features().unrolling)
        return withoutUnrolling(words);
    return {words.begin(), words.end()};
}

VkShaderModule Pipelines::shader(const std::string& name) {
    if (const auto found = m_shaders.find(name); found != m_shaders.end())
        return found->second;
    return m_shaders[name] = makeShader(*m_device, formOf(name));
}

VkPipeline Pipelines::make(const std::string& module, VkShaderModule shader,
                           const VkSpecializationInfo* constants) {
    VkComputePipelineCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
    info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    info.stage.module = shader;
    info.stage.pName = "main";
    info.stage.pSpecializationInfo = constants;
    if (module.ends_with("_broadcast")) // lanes count from subgroup to subgroup
        info.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
    info.layout = m_layout;
    info.flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT; // see Recording::dispatch
    VkPipeline pipeline = VK_NULL_HANDLE;
    checkVulkan(m_device->api().vkCreateComputePipelines(m_device->handle(), m_cache, 1, &info,
                                                         nullptr, &pipeline),
                "vkCreateComputePipelines");
    return pipeline;
}

VkPipeline Pipelines::makeFolded(const std::string& module, const KernelConstants& constants) {
    const VkShaderModule folded = makeShader(*m_device, specialize(formOf(module), constants));
    try {
        const VkPipeline pipeline = make(module, folded, nullptr);
        m_device->api().vkDestroyShaderModule(m_device->handle(), folded, nullptr);
        return pipeline;
    } catch (...) {
        m_device->api().vkDestroyShaderModule(m_device->handle(), folded, nullptr);
        throw;
    }
}

VkPipeline Pipelines::get(const std::string& module, const KernelConstants& wanted) {
    KernelConstants constants = wanted;
    plantFault(module, constants);
    const std::pair key{module, constants};
    if (const auto found = m_pipelines.find(key); found != m_pipelines.end())
        return found->second;
    if (!m_device->features().specialization)
        return m_pipelines[key] = makeFolded(module, constants);
    std::vector<VkSpecializationMapEntry> entries;
    std::vector<uint32_t> values;
    for (const auto& [id, value] : constants) {
        entries.push_back({id, static_cast<uint32_t>(values.size() * 4), 4});
        values.push_back(value);
    }
    const VkSpecializationInfo special{static_cast<uint32_t>(entries.size()), entries.data(),
                                       values.size() * 4, values.data()};
    return m_pipelines[key] = make(module, shader(module), &special);
}

} // namespace nibble
