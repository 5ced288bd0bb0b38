#pragma once

#include "core/runtime/backend.h"
#include "core/runtime/vulkan/features.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// The Vulkan instance, with the validation layer when NIBBLE_VULKAN_VALIDATION=1.
class VulkanInstance {
public:
    /// Null when there is no loader or no instance can be made; `why` then says so.
    static std::shared_ptr<VulkanInstance> make(std::string* why);
    ~VulkanInstance();
    VulkanInstance(const VulkanInstance&) = delete;
    VulkanInstance& operator=(const VulkanInstance&) = delete;

    /// Devices with Vulkan 1.1 and a compute queue.
    std::vector<VkPhysicalDevice> devices() const;
    /// Throws Error{Internal} with the validation layer's messages, if there are any.
    void throwMessages();

private:
    VulkanInstance() = default;
    void addMessage(const char* text);
    static VKAPI_ATTR VkBool32 VKAPI_CALL onMessage(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                                    VkDebugUtilsMessageTypeFlagsEXT,
                                                    const VkDebugUtilsMessengerCallbackDataEXT*,
                                                    void*);
    VkInstance m_instance = VK_NULL_HANDLE;
    VkDebugUtilsMessengerEXT m_messenger = VK_NULL_HANDLE;
    std::mutex m_mutex;
    std::vector<std::string> m_messages;
};

/// A logical device with one compute queue.
class VulkanDevice {
public:
    VulkanDevice(std::shared_ptr<VulkanInstance> instance, VkPhysicalDevice physical);
    ~VulkanDevice();
    VulkanDevice(const VulkanDevice&) = delete;
    VulkanDevice& operator=(const VulkanDevice&) = delete;

    VkDevice handle() const { return m_device; }
    const VolkDeviceTable& api() const { return m_api; }
    const VkPhysicalDeviceLimits& limits() const { return m_limits; }
    const VulkanFeatures& features() const { return m_features; }
    VkCommandPool commandPool() const { return m_commandPool; }
    /// Index of a memory type with all of `required`, and of `preferred` if there is one.
    uint32_t memoryType(uint32_t allowed, VkMemoryPropertyFlags required,
                        VkMemoryPropertyFlags preferred) const;
    /// Whether the device computes in the host's memory (integrated GPUs and software).
    bool sharesHostMemory() const { return m_sharesHostMemory; }

    /// Whether it is a program on the host's processor.
    bool isSoftware() const { return m_isSoftware; }
    /// Whether command buffers can read the device's clock.
    bool hasClock() const { return m_hasClock; }

    /// A recorded command buffer, and what it costs in multiply-adds.
    struct Piece {
        VkCommandBuffer commands = VK_NULL_HANDLE;
        double work = 0;
    };
    /// Runs command buffers to their end, one after the other. Drivers take a device for dead that
    /// does not answer for a second or two, so that no submission takes long: as many pieces go in
    /// one as the device did in kSubmissionSeconds in the call before. After Error{DeviceLost}
    /// every later call is one.
    void run(std::span<const Piece> pieces);
    /// Work that a dispatch should not exceed, and at which a recording begins its next piece.
    double pieceWork() const;
    /// Bytes that this process has taken from Vulkan, on all devices: a GPU is opened once for each
    /// running model.
    static uint64_t heldBytes() { return static_cast<uint64_t>(s_held.load()); }
    static void hold(int64_t bytes) { s_held += bytes; }
    /// The most that the process may take, by NIBBLE_VULKAN_MEMORY=BYTES in the environment: a
    /// device of that size, for tests and to leave room for others; 0 = all there is.
    static uint64_t memoryLimit();
    DeviceInfo info() const;

private:
    void makeObjects(uint32_t family);
    void destroy();

    std::shared_ptr<VulkanInstance> m_instance;
    VkPhysicalDevice m_physical;
    VkPhysicalDeviceLimits m_limits{};
    VulkanFeatures m_features;
    bool m_sharesHostMemory = false, m_isSoftware = false, m_hasClock = false;
    VkDevice m_device = VK_NULL_HANDLE;
    VolkDeviceTable m_api{};
    VkQueue m_queue = VK_NULL_HANDLE;
    VkCommandPool m_commandPool = VK_NULL_HANDLE;
    VkFence m_fence = VK_NULL_HANDLE;
    bool m_lost = false;
    double m_rate = 0; ///< multiply-adds a second in the last long call; 0 before it
    static inline std::atomic<int64_t> s_held{0};
};

/// How `devices` lists a physical device.
DeviceInfo describeDevice(VkPhysicalDevice physical);

} // namespace nibble
