#pragma once

#include "core/runtime/vulkan/device.h"
#include "core/runtime/vulkan/kernel_constants.h"
#include "vulkan_kernels/include/interface.h"

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

/// Buffers that a kernel sees: bindings 0 … kKernelBuffers − 1.
inline constexpr uint32_t kKernelBuffers = 12;
inline constexpr uint32_t kPushBytes = 128;

/// A module as drivers get it that shall not unroll loops.
std::vector<uint32_t> withoutUnrolling(std::span<const uint32_t> words);

/// Compute pipelines, made when first used. All share one layout: kKernelBuffers storage buffers
/// and kPushBytes of push constants.
class Pipelines {
public:
    explicit Pipelines(std::shared_ptr<VulkanDevice> device);
    ~Pipelines();
    Pipelines(const Pipelines&) = delete;
    Pipelines& operator=(const Pipelines&) = delete;

    /// Whether this build has a kernel: its compiler may have left it out.
    static bool hasModule(std::string_view name);
    VkPipeline get(const std::string& module, const KernelConstants& constants);
    VkPipelineLayout layout() const { return m_layout; }
    VkDescriptorSetLayout setLayout() const { return m_setLayout; }

private:
    void makeLayouts();
    void destroy();
    std::vector<uint32_t> formOf(const std::string& name) const;
    VkShaderModule shader(const std::string& name);
    VkPipeline make(const std::string& module, VkShaderModule shader,
                    const VkSpecializationInfo* constants);
    VkPipeline makeFolded(const std::string& module, const KernelConstants& constants);

    std::shared_ptr<VulkanDevice> m_device;
    VkDescriptorSetLayout m_setLayout = VK_NULL_HANDLE;
    VkPipelineLayout m_layout = VK_NULL_HANDLE;
    VkPipelineCache m_cache = VK_NULL_HANDLE;
    std::map<std::string, VkShaderModule> m_shaders;
    std::map<std::pair<std::string, KernelConstants>, VkPipeline> m_pipelines;
};

} // namespace nibble
