#pragma once

#include "core/runtime/vulkan/stage.h"

namespace nibble {

/// A Vulkan device as a Backend; what the doctor finds wrong is taken out of paths().
class VulkanBackend : public Backend {
public:
    VulkanBackend(std::shared_ptr<VulkanDevice> device, int index);
    DeviceInfo info() const override;
    std::unique_ptr<Stage> makeStage(const ModelConfig& config,
                                     const StageOptions& options) override;
    MemoryUse predict(const ModelConfig& config, const StageOptions& options) const override;
    VulkanPaths& paths() { return m_context->paths; }
    VulkanContext& context() { return *m_context; }

private:
    std::shared_ptr<VulkanDevice> m_device;
    std::shared_ptr<VulkanContext> m_context;
    int m_index;
};

} // namespace nibble
