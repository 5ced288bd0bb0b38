#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "core/runtime/vulkan/vulkan_backend.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

/// What "auto" takes: a real GPU, else the CPU.
std::string automatic(const std::vector<DeviceInfo>& devices) {
    for (const DeviceInfo& device : devices)
        if (device.id != "cpu" && device.kind != "software")
            return device.id;
    return "cpu";
}

Json describe(const DeviceInfo& device) {
    return {{"id", device.id},
            {"name", device.name},
            {"kind", device.kind},
            {"driver", device.driver},
            {"memory_bytes", device.memoryBytes},
            {"free_bytes", device.freeKnown ? Json(device.freeBytes) : Json(nullptr)},
            {"features", device.features}};
}

int run(bool json) {
    const auto devices = listDevices();
    std::string why;
    const bool vulkan = devices.size() > 1;
    if (!vulkan)
        listVulkanDevices(&why);
    if (json) {
        Json list = Json::array();
        for (const DeviceInfo& device : devices)
            list.push_back(describe(device));
        printJson({{"devices", list},
                   {"auto", automatic(devices)},
                   {"vulkan_problem", vulkan ? Json(nullptr) : Json(why)}});
        return 0;
    }
    Table table({{"id", Table::Align::Left},
                 {"device", Table::Align::Left},
                 {"kind", Table::Align::Left},
                 {"memory", Table::Align::Right},
                 {"driver", Table::Align::Left},
                 {"features", Table::Align::Left}});
    for (const DeviceInfo& device : devices)
        table.add({device.id, device.name, device.kind, bytesText(device.memoryBytes),
                   device.driver, fmt::format("{}", fmt::join(device.features, " "))});
    print(table.text());
    if (!vulkan)
        print("\nNo Vulkan device: " + why + "\n");
    print(fmt::format("\n--device auto takes {}.\n", automatic(devices)));
    return 0;
}

} // namespace

Action defineDevices(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    addJson(app, *json);
    return [json] { return run(*json); };
}

} // namespace nibble::cli
