#include "core/base/error.h"
#include "core/runtime/backend.h"
#include "core/runtime/vulkan/vulkan_backend.h"

#include <algorithm>
#include <charconv>

namespace nibble {
namespace {

bool isRealGpu(const DeviceInfo& device) {
    return device.kind == "discrete" || device.kind == "integrated" || device.kind == "virtual";
}

/// Better devices first: discrete, integrated, virtual, software; among equals the larger memory.
int rank(const DeviceInfo& device) {
    constexpr std::string_view kOrder[] = {"discrete", "integrated", "virtual"};
    const auto at = std::find(std::begin(kOrder), std::end(kOrder), device.kind);
    return static_cast<int>(at - std::begin(kOrder));
}

int bestDevice(const std::vector<DeviceInfo>& devices) {
    const auto better = [](const DeviceInfo& a, const DeviceInfo& b) {
        return rank(a) != rank(b) ? rank(a) < rank(b) : a.memoryBytes > b.memoryBytes;
    };
    return static_cast<int>(std::min_element(devices.begin(), devices.end(), better) -
                            devices.begin());
}

[[noreturn]] void noSuchDevice(std::string_view spec, const std::vector<DeviceInfo>& devices,
                               const std::string& why) {
    std::string known = "auto, cpu";
    for (const DeviceInfo& device : devices)
        known += ", " + device.id + " (" + device.name + ")";
    fail(ErrorKind::Usage, "There is no device \"{}\". Available: {}.{}", printable(spec), known,
         why.empty() ? "" : " Vulkan: " + why);
}

} // namespace

std::shared_ptr<Backend> openDevice(std::string_view spec) {
    if (spec == "cpu")
        return openCpu();
    if (spec == "cpu:scalar")
        return openCpu(CpuMode::Scalar);
    std::string why;
    const std::vector<DeviceInfo> devices = listVulkanDevices(&why);
    if (spec.empty() || spec == "auto") {
        const int best = devices.empty() ? -1 : bestDevice(devices);
        return best >= 0 && isRealGpu(devices[static_cast<size_t>(best)]) ? openVulkan(best)
                                                                          : openCpu();
    }
    if (spec == "vulkan" && !devices.empty())
        return openVulkan(bestDevice(devices));
    if (spec.starts_with("vulkan:")) {
        int index = -1;
        const char* end = spec.data() + spec.size();
        const auto [rest, code] = std::from_chars(spec.data() + 7, end, index);
        if (code == std::errc() && rest == end && index >= 0 &&
            static_cast<size_t>(index) < devices.size())
            return openVulkan(index);
    }
    noSuchDevice(spec, devices, why);
}

std::vector<DeviceInfo> listDevices() {
    std::vector<DeviceInfo> devices = listVulkanDevices();
    devices.push_back(openCpu()->info());
    return devices;
}

} // namespace nibble
