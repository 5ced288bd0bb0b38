#include "core/runtime/vulkan/features.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {
namespace {

bool isDisabled(std::string_view name) {
    const char* text = std::getenv("NIBBLE_VULKAN_DISABLE");
    if (!text)
        return false;
    const std::string padded = fmt::format(",{},", text);
    return padded.find(fmt::format(",{},", name)) != std::string::npos;
}

bool hasExtension(VkPhysicalDevice physical, const char* name) {
    uint32_t count = 0;
    vkEnumerateDeviceExtensionProperties(physical, nullptr, &count, nullptr);
    std::vector<VkExtensionProperties> all(count);
    vkEnumerateDeviceExtensionProperties(physical, nullptr, &count, all.data());
    return std::any_of(all.begin(), all.end(), [&](const VkExtensionProperties& e) {
        return std::strcmp(e.extensionName, name) == 0;
    });
}

/// A feature that is left alone on a driver, whatever the driver says of it. What is only slower is
/// not listed: the probe finds that out.
struct Quirk {
    VkDriverId driver;
    std::string_view feature; ///< as in NIBBLE_VULKAN_DISABLE
};
constexpr Quirk kQuirks[] = {
    // It compiles every branch of a kernel before it looks at its specialization constants.
    {VK_DRIVER_ID_GOOGLE_SWIFTSHADER, "specialization"},
    // They take two to ten times as long to compile unrolled loops, which are no faster.
    {VK_DRIVER_ID_GOOGLE_SWIFTSHADER, "unrolling"},
    {VK_DRIVER_ID_MESA_LLVMPIPE, "unrolling"},
    // With matrix units an Arc A770 takes a thousand times as long for some shapes (llama.cpp's
    // issue 24404): too long for a probe.
    {VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS, "matrix_khr"},
};

bool isHidden(VkDriverId driver, std::string_view feature) {
    return isDisabled(feature) ||
           std::any_of(std::begin(kQuirks), std::end(kQuirks),
                       [&](const Quirk& q) { return q.driver == driver && q.feature == feature; });
}

constexpr auto kMatrixKhrProperties = static_cast<VkStructureType>(1000506001);
/// VkCooperativeMatrixPropertiesKHR.
struct MatrixKhrProperties {
    VkStructureType sType = kMatrixKhrProperties;
    void* pNext = nullptr;
    uint32_t m = 0, n = 0, k = 0;
    uint32_t a = 0, b = 0, c = 0, result = 0;
    VkBool32 saturating = VK_FALSE;
    uint32_t scope = 0;
};
constexpr uint32_t kSigned8 = 3, kSigned32 = 5, kSubgroupScope = 3; // the same in both extensions

bool hasMatrixKhr(VkPhysicalDevice physical) {
    using Query = VkResult(VKAPI_PTR*)(VkPhysicalDevice, uint32_t*, MatrixKhrProperties*);
    const auto query = reinterpret_cast<Query>(vkGetInstanceProcAddr(
        volkGetLoadedInstance(), "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"));
    if (!query || !hasExtension(physical, kMatrixKhr))
        return false;
    uint32_t count = 0;
    query(physical, &count, nullptr);
    std::vector<MatrixKhrProperties> all(count);
    query(physical, &count, all.data());
    return std::any_of(all.begin(), all.end(), [](const MatrixKhrProperties& p) {
        return p.m == 16 && p.n == 16 && p.k == 32 && p.a == kSigned8 && p.b == kSigned8 &&
               p.c == kSigned32 && p.result == kSigned32 && !p.saturating &&
               p.scope == kSubgroupScope;
    });
}

bool hasMatrixNv(VkPhysicalDevice physical) {
    if (!vkGetPhysicalDeviceCooperativeMatrixPropertiesNV || !hasExtension(physical, kMatrixNv))
        return false;
    uint32_t count = 0;
    vkGetPhysicalDeviceCooperativeMatrixPropertiesNV(physical, &count, nullptr);
    std::vector<VkCooperativeMatrixPropertiesNV> all(count);
    for (auto& p : all)
        p.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_NV;
    vkGetPhysicalDeviceCooperativeMatrixPropertiesNV(physical, &count, all.data());
    return std::any_of(all.begin(), all.end(), [](const VkCooperativeMatrixPropertiesNV& p) {
        return p.MSize == 16 && p.NSize == 16 && p.KSize == 32 && p.AType == kSigned8 &&
               p.BType == kSigned8 && p.CType == kSigned32 && p.DType == kSigned32 &&
               p.scope == kSubgroupScope;
    });
}

uint32_t apiVersionOf(VkPhysicalDevice physical) {
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    return properties.apiVersion;
}

/// One of the structures that extend VkPhysicalDeviceProperties2.
template <typename T>
T propertiesOf(VkPhysicalDevice physical, VkStructureType type) {
    T found{};
    found.sType = type;
    VkPhysicalDeviceProperties2 properties{};
    properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    properties.pNext = &found;
    vkGetPhysicalDeviceProperties2(physical, &properties);
    found.pNext = nullptr;
    return found;
}

VkPhysicalDeviceSubgroupProperties subgroupOf(VkPhysicalDevice physical) {
    return propertiesOf<VkPhysicalDeviceSubgroupProperties>(
        physical, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
}

VulkanFeatures::Matrix findMatrix(VkPhysicalDevice physical, VkDriverId driver) {
    if (apiVersionOf(physical) < VK_API_VERSION_1_2 || subgroupOf(physical).subgroupSize != 32)
        return VulkanFeatures::Matrix::None;
    VkPhysicalDeviceVulkan12Features core{};
    core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    VkPhysicalDeviceFeatures2 features{};
    features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    features.pNext = &core;
    vkGetPhysicalDeviceFeatures2(physical, &features);
    if (!core.shaderInt8 || !core.vulkanMemoryModel)
        return VulkanFeatures::Matrix::None;
    if (!isHidden(driver, "matrix_nv") && hasMatrixNv(physical))
        return VulkanFeatures::Matrix::Nv;
    if (!isHidden(driver, "matrix_khr") && hasMatrixKhr(physical))
        return VulkanFeatures::Matrix::Khr;
    return VulkanFeatures::Matrix::None;
}

bool hasBroadcast(VkPhysicalDevice physical) {
    if (apiVersionOf(physical) < VK_API_VERSION_1_3)
        return false;
    const auto subgroup = subgroupOf(physical);
    const auto sizes = propertiesOf<VkPhysicalDeviceSubgroupSizeControlProperties>(
        physical, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES);
    VkPhysicalDeviceSubgroupSizeControlFeatures control{};
    control.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES;
    VkPhysicalDeviceFeatures2 features{};
    features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    features.pNext = &control;
    vkGetPhysicalDeviceFeatures2(physical, &features);
    const uint32_t size = subgroup.subgroupSize;
    return (size == 8 || size == 16) && sizes.minSubgroupSize == size &&
           sizes.maxSubgroupSize == size && control.computeFullSubgroups == VK_TRUE &&
           features.features.shaderInt64 == VK_TRUE &&
           (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0 &&
           (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_BALLOT_BIT) != 0;
}

} // namespace

VkPhysicalDeviceDriverProperties driverOf(VkPhysicalDevice physical) {
    return propertiesOf<VkPhysicalDeviceDriverProperties>(
        physical, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
}

VulkanFeatures findFeatures(VkPhysicalDevice physical) {
    VulkanFeatures found;
    const VkDriverId driver = driverOf(physical).driverID;
    if (hasExtension(physical, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME)) {
        VkPhysicalDeviceShaderIntegerDotProductFeatures dot{};
        dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES;
        VkPhysicalDeviceFeatures2 features{};
        features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
        features.pNext = &dot;
        vkGetPhysicalDeviceFeatures2(physical, &features);
        found.dot = dot.shaderIntegerDotProduct == VK_TRUE && !isHidden(driver, "dot");
    }
    found.broadcast = hasBroadcast(physical) && !isHidden(driver, "broadcast");
    found.specialization = !isHidden(driver, "specialization");
    found.unrolling = !isHidden(driver, "unrolling");
    found.matrix = findMatrix(physical, driver);
    found.memoryBudget = hasExtension(physical, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    return found;
}

} // namespace nibble
