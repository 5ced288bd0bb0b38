#include "core/runtime/vulkan/vulkan_backend.h"

#include "core/base/error.h"
#include "core/runtime/probe.h"
#include "core/runtime/vulkan/open.h"
#include "core/runtime/vulkan/specialize.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

namespace nibble {

VulkanBackend::VulkanBackend(std::shared_ptr<VulkanDevice> device, int index)
    : m_device(device), m_context(std::make_shared<VulkanContext>(device)), m_index(index) {}

DeviceInfo VulkanBackend::info() const {
    DeviceInfo info = m_device->info();
    info.id = fmt::format("vulkan:{}", m_index);
    return info;
}

std::unique_ptr<Stage> VulkanBackend::makeStage(const ModelConfig& config,
                                                const StageOptions& options) {
    return std::make_unique<VulkanStage>(config, options, m_context);
}

MemoryUse VulkanBackend::predict(const ModelConfig& config, const StageOptions& options) const {
    return VulkanStage::predict(config, options);
}

namespace {

/// A software device has one row of kernels that is known to be good; a test may want its probe.
bool isProbed(const VulkanDevice& device) {
    const char* wanted = std::getenv("NIBBLE_VULKAN_PROBE");
    return wanted ? std::string_view(wanted) == "1"
                  : !device.isSoftware() && !std::getenv("NIBBLE_VULKAN_TILING");
}

} // namespace

VulkanPaths* vulkanPaths(Backend& backend) {
    auto* vulkan = dynamic_cast<VulkanBackend*>(&backend);
    return vulkan ? &vulkan->paths() : nullptr;
}

std::vector<DeviceInfo> listVulkanDevices(std::string* why) {
    std::vector<DeviceInfo> all;
    const auto instance = VulkanInstance::make(why);
    if (!instance)
        return all;
    for (const VkPhysicalDevice physical : instance->devices()) {
        all.push_back(describeDevice(physical));
        all.back().id = fmt::format("vulkan:{}", all.size() - 1);
    }
    if (all.empty() && why)
        *why = "The Vulkan drivers here offer no device with Vulkan 1.1.";
    return all;
}

std::shared_ptr<Backend> openVulkan(int index) {
    std::string why = "The Vulkan drivers here offer no such device.";
    const auto instance = VulkanInstance::make(&why);
    const auto devices = instance ? instance->devices() : std::vector<VkPhysicalDevice>();
    if (index < 0 || static_cast<size_t>(index) >= devices.size())
        fail(ErrorKind::Usage, "There is no device vulkan:{} ({} Vulkan devices found). {}", index,
             devices.size(), why);
    const auto device =
        std::make_shared<VulkanDevice>(instance, devices[static_cast<size_t>(index)]);
    if (!device->features().specialization && !canSpecialize())
        fail(
            ErrorKind::Usage,
            "The driver of vulkan:{} needs kernels that are specialized beforehand, and this build "
            "has no SPIRV-Tools to do it; build with package spirv-tools, or use another device.",
            index);
    auto backend = std::make_shared<VulkanBackend>(device, index);
    if (isProbed(*device))
        probeKernels(*backend);
    return backend;
}

} // namespace nibble
