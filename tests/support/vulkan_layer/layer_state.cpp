#include "tests/support/vulkan_layer/layer_state.h"

#include <vulkan/vulkan_core.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace nibble::test {
namespace {

struct Word {
    std::string_view name;
    VulkanCall call;
};
constexpr Word kCallNames[] = {{"any", VulkanCall::Any},      {"submit", VulkanCall::Submit},
                               {"wait", VulkanCall::Wait},    {"alloc", VulkanCall::Allocate},
                               {"bind", VulkanCall::Bind},    {"map", VulkanCall::Map},
                               {"create", VulkanCall::Create}};

/// NIBBLE_LAYER_FAULT=submit:3:lost,alloc:2:oom,wait:5:hang,budget:1000000
void readFault(VulkanLayer& layer, std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == text.npos)
        return;
    const std::string_view kind = text.substr(0, colon);
    const std::string rest(text.substr(colon + 1));
    const uint64_t number = std::strtoull(rest.c_str(), nullptr, 10);
    if (kind == "budget")
        layer.budget = number;
    for (const Word& word : kCallNames)
        if (word.name == kind)
            layer.failCall(word.call, number,
                           rest.ends_with(":oom")    ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                           : rest.ends_with(":hang") ? VK_TIMEOUT
                                                     : VK_ERROR_DEVICE_LOST);
}

/// NIBBLE_LAYER_LIMITS=storage:65536,allocation:1048576,discrete:1
void readLimit(VulkanLayer& layer, std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == text.npos)
        return;
    const std::string_view kind = text.substr(0, colon);
    const uint64_t number = std::strtoull(std::string(text.substr(colon + 1)).c_str(), nullptr, 10);
    if (kind == "storage")
        layer.storageRange = number;
    if (kind == "allocation")
        layer.allocationSize = number;
    if (kind == "discrete")
        layer.discrete = number != 0;
}

template <typename Read>
void readList(const char* variable, VulkanLayer& layer, Read read) {
    const char* text = std::getenv(variable);
    std::string_view rest = text ? text : "";
    while (!rest.empty()) {
        const size_t comma = rest.find(',');
        read(layer, rest.substr(0, comma));
        rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
    }
}

} // namespace

VulkanLayer& vulkanLayer() {
    static VulkanLayer layer;
    return layer;
}

void VulkanLayer::failCall(VulkanCall call, uint64_t number, int vkResult) {
    const auto at = static_cast<size_t>(call);
    calls[at] = 0;
    result[at] = vkResult;
    failAt[at] = number;
}

void VulkanLayer::reset() {
    dispatchesRecorded = dispatchesExecuted = 0;
    for (int i = 0; i < kCalls; ++i) {
        calls[i] = failAt[i] = 0;
        result[i] = VK_SUCCESS;
    }
    budget = faults = violations = storageRange = allocationSize = 0;
    discrete = false;
    peakBytes = liveBytes.load();
    forgetExecuted();
}

void readLayerEnvironment() {
    static const bool once = [] {
        readList("NIBBLE_LAYER_FAULT", vulkanLayer(), readFault);
        readList("NIBBLE_LAYER_LIMITS", vulkanLayer(), readLimit);
        return true;
    }();
    (void)once;
}

/// NIBBLE_LAYER_REPORT=FILE: the counts, a name and a number a line.
void writeLayerReport() {
    const char* path = std::getenv("NIBBLE_LAYER_REPORT");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    if (!file)
        return;
    const VulkanLayer& layer = vulkanLayer();
    std::fprintf(file,
                 "dispatches %llu\nsubmits %llu\nallocations %llu\npeak_bytes %lld\n"
                 "live_bytes %lld\nfaults %llu\n",
                 static_cast<unsigned long long>(layer.dispatchesExecuted),
                 static_cast<unsigned long long>(layer.calls[int(VulkanCall::Submit)]),
                 static_cast<unsigned long long>(layer.calls[int(VulkanCall::Allocate)]),
                 static_cast<long long>(layer.peakBytes), static_cast<long long>(layer.liveBytes),
                 static_cast<unsigned long long>(layer.faults));
    std::fclose(file);
}

int nextCall(VulkanCall call) {
    VulkanLayer& layer = vulkanLayer();
    int answer = VK_SUCCESS;
    for (const VulkanCall kind : {VulkanCall::Any, call}) {
        const auto at = static_cast<size_t>(kind);
        const uint64_t number = ++layer.calls[at];
        if (number == layer.failAt[at])
            answer = layer.result[at];
    }
    if (answer != VK_SUCCESS)
        ++layer.faults;
    return answer;
}

} // namespace nibble::test
