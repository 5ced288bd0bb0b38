#include "core/runtime/vulkan/device.h"

#include "core/base/error.h"
#include "core/runtime/vulkan/pipelines.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

namespace nibble {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";

/// Pieces (device.h): what a submission should take at most by the rate of the call before, with
/// room for one that is slower; and a piece of it. Before the first long call a device may be the
/// slowest, of 0.2 T multiply-adds a second, which does a piece in 40 ms.
constexpr double kSubmissionSeconds = 0.1, kPieceSeconds = 0.02, kSlowPiece = 8e9;

std::vector<VkQueueFamilyProperties> queueFamilies(VkPhysicalDevice physical) {
    uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families.data());
    return families;
}

std::optional<uint32_t> computeFamily(VkPhysicalDevice physical) {
    const std::vector<VkQueueFamilyProperties> families = queueFamilies(physical);
    for (uint32_t i = 0; i < families.size(); ++i)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT)
            return i;
    return std::nullopt;
}

const char* kindOf(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    default:
        return "software";
    }
}

} // namespace

std::shared_ptr<VulkanInstance> VulkanInstance::make(std::string* why) {
    const auto refuse = [&](std::string text) {
        if (why)
            *why = std::move(text);
        return nullptr;
    };
    if (!loadVulkan())
        return refuse("There is no Vulkan loader (libvulkan.so.1); install package libvulkan1.");
    const char* wanted = std::getenv("NIBBLE_VULKAN_VALIDATION");
    const bool validate = wanted && std::strcmp(wanted, "1") == 0;
    VkApplicationInfo application{};
    application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    application.pApplicationName = "nibble";
    application.apiVersion = VK_API_VERSION_1_3;
    constexpr VkValidationFeatureEnableEXT kSync =
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    VkValidationFeaturesEXT sync{};
    sync.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT;
    sync.enabledValidationFeatureCount = 1;
    sync.pEnabledValidationFeatures = &kSync;
    const char* extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    VkInstanceCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    info.pApplicationInfo = &application;
    if (validate) {
        info.pNext = &sync;
        info.enabledLayerCount = 1;
        info.ppEnabledLayerNames = &kValidationLayer;
        info.enabledExtensionCount = 1;
        info.ppEnabledExtensionNames = &extension;
    }
    std::shared_ptr<VulkanInstance> instance(new VulkanInstance);
    const VkResult result = vkCreateInstance(&info, nullptr, &instance->m_instance);
    if (result == VK_ERROR_LAYER_NOT_PRESENT)
        return refuse("NIBBLE_VULKAN_VALIDATION=1 needs package vulkan-validationlayers.");
    if (result != VK_SUCCESS)
        return refuse(fmt::format("There is no Vulkan driver (vkCreateInstance returned {}).",
                                  static_cast<int>(result)));
    volkLoadInstanceOnly(instance->m_instance);
    if (validate) {
        VkDebugUtilsMessengerCreateInfoEXT messenger{};
        messenger.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
        messenger.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                                    VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
        messenger.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
        messenger.pfnUserCallback = onMessage;
        messenger.pUserData = instance.get();
        checkVulkan(vkCreateDebugUtilsMessengerEXT(instance->m_instance, &messenger, nullptr,
                                                   &instance->m_messenger),
                    "vkCreateDebugUtilsMessengerEXT");
    }
    return instance;
}

VulkanInstance::~VulkanInstance() {
    if (m_messenger)
        vkDestroyDebugUtilsMessengerEXT(m_instance, m_messenger, nullptr);
    if (m_instance)
        vkDestroyInstance(m_instance, nullptr);
}

VkBool32 VulkanInstance::onMessage(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                   VkDebugUtilsMessageTypeFlagsEXT,
                                   const VkDebugUtilsMessengerCallbackDataEXT* data, void* self) {
    static_cast<VulkanInstance*>(self)->addMessage(data->pMessage);
    return VK_FALSE;
}

void VulkanInstance::addMessage(const char* text) {
    const std::lock_guard lock(m_mutex);
    m_messages.emplace_back(text);
}

void VulkanInstance::throwMessages() {
    const std::lock_guard lock(m_mutex);
    if (m_messages.empty())
        return;
    const std::string first = m_messages.front();
    const size_t count = m_messages.size();
    m_messages.clear();
    fail(ErrorKind::Internal, "The validation layer has {} messages; the first: {}", count, first);
}

std::vector<VkPhysicalDevice> VulkanInstance::devices() const {
    uint32_t count = 0;
    vkEnumeratePhysicalDevices(m_instance, &count, nullptr);
    std::vector<VkPhysicalDevice> all(count);
    vkEnumeratePhysicalDevices(m_instance, &count, all.data());
    std::erase_if(all, [](VkPhysicalDevice device) {
        VkPhysicalDeviceProperties properties;
        vkGetPhysicalDeviceProperties(device, &properties);
        return properties.apiVersion < VK_API_VERSION_1_1 || !computeFamily(device) ||
               properties.limits.maxPerStageDescriptorStorageBuffers < kKernelBuffers;
    });
    return all;
}

DeviceInfo describeDevice(VkPhysicalDevice physical) {
    const VkPhysicalDeviceDriverProperties driver = driverOf(physical);
    VkPhysicalDeviceProperties p;
    vkGetPhysicalDeviceProperties(physical, &p);
    const VulkanFeatures features = findFeatures(physical);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{};
    budget.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT;
    VkPhysicalDeviceMemoryProperties2 memory{};
    memory.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2;
    if (features.memoryBudget)
        memory.pNext = &budget;
    vkGetPhysicalDeviceMemoryProperties2(physical, &memory);
    DeviceInfo info;
    info.name = p.deviceName;
    info.kind = kindOf(p.deviceType);
    info.driver =
        fmt::format("{}{}{}, Vulkan {}.{}.{}", driver.driverName, *driver.driverInfo ? " " : "",
                    driver.driverInfo, VK_API_VERSION_MAJOR(p.apiVersion),
                    VK_API_VERSION_MINOR(p.apiVersion), VK_API_VERSION_PATCH(p.apiVersion));
    for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; ++i) {
        const VkMemoryHeap& heap = memory.memoryProperties.memoryHeaps[i];
        if (!(heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
            continue;
        info.memoryBytes += heap.size;
        const uint64_t used = std::min(budget.heapUsage[i], budget.heapBudget[i]);
        info.freeBytes += features.memoryBudget ? budget.heapBudget[i] - used : heap.size;
    }
    info.freeKnown = features.memoryBudget;
    if (const uint64_t limit = VulkanDevice::memoryLimit()) {
        const uint64_t held = VulkanDevice::heldBytes();
        info.memoryBytes = std::min(info.memoryBytes, limit);
        info.freeBytes = std::min(info.freeBytes, limit - std::min(limit, held));
        info.freeKnown = true;
    }
    if (features.dot)
        info.features.emplace_back("dot");
    if (features.broadcast)
        info.features.emplace_back("broadcast");
    if (features.matrix != VulkanFeatures::Matrix::None)
        info.features.emplace_back("matrix units");
    return info;
}

uint64_t VulkanDevice::memoryLimit() {
    static const uint64_t limit = [] {
        const char* text = std::getenv("NIBBLE_VULKAN_MEMORY");
        return text ? std::strtoull(text, nullptr, 10) : 0;
    }();
    return limit;
}

VulkanDevice::VulkanDevice(std::shared_ptr<VulkanInstance> instance, VkPhysicalDevice physical)
    : m_instance(std::move(instance)), m_physical(physical), m_features(findFeatures(physical)) {
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    m_limits = properties.limits;
    m_sharesHostMemory = properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU ||
                         properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    m_isSoftware = properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const uint32_t family = *computeFamily(physical);
    const float priority = 1;
    VkDeviceQueueCreateInfo queue{};
    queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
    queue.queueFamilyIndex = family;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    std::vector<const char*> extensions;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot{};
    dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES;
    dot.shaderIntegerDotProduct = VK_TRUE;
    VkDeviceCreateInfo info{};
    info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queue;
    if (m_features.dot) {
        extensions.push_back(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
        info.pNext = &dot;
    }
    VkPhysicalDeviceVulkan12Features core{};
    core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    core.shaderInt8 = core.vulkanMemoryModel = VK_TRUE;
    MatrixKhrFeatures matrixKhr;
    matrixKhr.cooperativeMatrix = VK_TRUE;
    VkPhysicalDeviceCooperativeMatrixFeaturesNV matrixNv{};
    matrixNv.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_NV;
    matrixNv.cooperativeMatrix = VK_TRUE;
    if (m_features.matrix != VulkanFeatures::Matrix::None) {
        const bool khr = m_features.matrix == VulkanFeatures::Matrix::Khr;
        extensions.push_back(khr ? kMatrixKhr : kMatrixNv);
        core.pNext = const_cast<void*>(info.pNext);
        matrixKhr.pNext = matrixNv.pNext = &core;
        info.pNext = khr ? static_cast<void*>(&matrixKhr) : static_cast<void*>(&matrixNv);
    }
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroups{};
    subgroups.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES;
    subgroups.computeFullSubgroups = VK_TRUE;
    VkPhysicalDeviceFeatures wide{};
    wide.shaderInt64 = VK_TRUE;
    if (m_features.broadcast) {
        info.pEnabledFeatures = &wide;
        subgroups.pNext = const_cast<void*>(info.pNext);
        info.pNext = &subgroups;
    }
    if (m_features.memoryBudget)
        extensions.push_back(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    info.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
    info.ppEnabledExtensionNames = extensions.data();
    checkVulkan(vkCreateDevice(physical, &info, nullptr, &m_device), "vkCreateDevice");
    volkLoadDeviceTable(&m_api, m_device);
    m_hasClock =
        queueFamilies(physical)[family].timestampValidBits > 0 && m_limits.timestampPeriod > 0;
    try {
        makeObjects(family);
    } catch (...) {
        destroy();
        throw;
    }
}

void VulkanDevice::makeObjects(uint32_t family) {
    m_api.vkGetDeviceQueue(m_device, family, 0, &m_queue);
    VkCommandPoolCreateInfo pool{};
    pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
    pool.queueFamilyIndex = family;
    VkFenceCreateInfo fence{};
    fence.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
    checkVulkan(m_api.vkCreateCommandPool(m_device, &pool, nullptr, &m_commandPool),
                "vkCreateCommandPool");
    checkVulkan(m_api.vkCreateFence(m_device, &fence, nullptr, &m_fence), "vkCreateFence");
}

VulkanDevice::~VulkanDevice() {
    destroy();
}

void VulkanDevice::destroy() {
    m_api.vkDeviceWaitIdle(m_device);
    m_api.vkDestroyFence(m_device, m_fence, nullptr);
    m_api.vkDestroyCommandPool(m_device, m_commandPool, nullptr);
    m_api.vkDestroyDevice(m_device, nullptr);
}

uint32_t VulkanDevice::memoryType(uint32_t allowed, VkMemoryPropertyFlags required,
                                  VkMemoryPropertyFlags preferred) const {
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(m_physical, &memory);
    for (const VkMemoryPropertyFlags flags : {required | preferred, required})
        for (uint32_t i = 0; i < memory.memoryTypeCount; ++i)
            if ((allowed >> i & 1u) && (memory.memoryTypes[i].propertyFlags & flags) == flags)
                return i;
    fail(ErrorKind::Internal, "The device has no memory type with flags {:#x}.", required);
}

double VulkanDevice::pieceWork() const {
    // A test's: every call in pieces of so little work.
    if (const char* text = std::getenv("NIBBLE_VULKAN_PIECE"))
        return std::max(std::strtod(text, nullptr), 1.0);
    return std::max(kSlowPiece, m_rate * kPieceSeconds);
}

void VulkanDevice::run(std::span<const Piece> pieces) {
    if (m_lost)
        checkVulkan(VK_ERROR_DEVICE_LOST, "an earlier call");
    // Before and not after: a fence that stayed signalled would end the next wait at once.
    checkVulkan(m_api.vkResetFences(m_device, 1, &m_fence), "vkResetFences");
    const auto begun = std::chrono::steady_clock::now();
    std::vector<VkCommandBuffer> commands;
    double work = 0, all = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
        commands.push_back(pieces[i].commands);
        work += pieces[i].work;
        all += pieces[i].work;
        const bool last = i + 1 == pieces.size();
        if (!last && work + pieces[i + 1].work <= m_rate * kSubmissionSeconds)
            continue;
        VkSubmitInfo submit{};
        submit.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
        submit.commandBufferCount = static_cast<uint32_t>(commands.size());
        submit.pCommandBuffers = commands.data();
        const VkResult submitted =
            m_api.vkQueueSubmit(m_queue, 1, &submit, last ? m_fence : VK_NULL_HANDLE);
        m_lost = submitted == VK_ERROR_DEVICE_LOST;
        if (submitted != VK_SUCCESS) // what went before still runs, in memory that may be let go of
            m_api.vkQueueWaitIdle(m_queue);
        checkVulkan(submitted, "vkQueueSubmit");
        commands.clear();
        work = 0;
    }
    const VkResult waited = m_api.vkWaitForFences(m_device, 1, &m_fence, VK_TRUE, UINT64_MAX);
    // Whatever the reason: the fence may still be in use, so that nothing more can be run; and what
    // is destroyed next must not be, which a lost device answers at once.
    m_lost = waited != VK_SUCCESS;
    if (m_lost)
        m_api.vkDeviceWaitIdle(m_device);
    checkVulkan(waited, "vkWaitForFences");
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    if (all > 0 && pieces.size() > 1)
        m_rate = all / std::max(taken.count(), 1e-6);
    m_instance->throwMessages();
}

DeviceInfo VulkanDevice::info() const {
    return describeDevice(m_physical);
}

} // namespace nibble
