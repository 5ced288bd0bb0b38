#include "core/base/error.h"
#include "core/base/kept_values.h"
#include "core/runtime/kernel_bench.h"
#include "core/serve/bench.h"
#include "core/serve/plan.h"

#include <nlohmann/json.hpp>

#include <map>
#include <mutex>

namespace nibble {

namespace {

using Json = nlohmann::json;

constexpr const char* kFile = "bandwidth.json";

std::optional<double> measured(Backend& backend, const DeviceInfo& device) {
    try {
        // Software devices read what the processor reads. Two passes: nobody is to wait for it.
        const double found = device.kind == "cpu" || device.kind == "software"
                                 ? cpuReadBandwidth(2)
                                 : vulkanReadBandwidth(backend);
        return found > 0 ? std::optional(found) : std::nullopt;
    } catch (const Error& error) { // no clock, or no memory left for it: the speed is not estimated
        if (error.kind() == ErrorKind::Cancelled)
            throw;
        return std::nullopt;
    }
}

struct Known {
    std::mutex mutex;
    std::map<std::string, std::optional<double>> bandwidths;
};

Known& knownHere() {
    static Known known;
    return known;
}

std::string nameOf(const DeviceInfo& device) {
    return device.name + ", " + device.driver;
}

} // namespace

std::optional<double> foundBandwidth(const DeviceInfo& device) {
    const std::scoped_lock lock(knownHere().mutex);
    const auto at = knownHere().bandwidths.find(nameOf(device));
    return at == knownHere().bandwidths.end() ? std::nullopt : at->second;
}

std::optional<double> knownBandwidth(Backend& backend) {
    const DeviceInfo device = backend.info();
    const std::string name = nameOf(device);
    const std::scoped_lock lock(knownHere().mutex);
    auto& known = knownHere().bandwidths;
    if (const auto at = known.find(name); at != known.end())
        return at->second;
    if (const Json kept = keptValue(kFile, name); kept.is_number() && kept.get<double>() > 0)
        return known[name] = kept.get<double>();
    const auto found = known[name] = measured(backend, device);
    if (found)
        keepValue(kFile, name, *found);
    return found;
}

void keepBandwidth(const DeviceInfo& device, double bandwidth) {
    const std::scoped_lock lock(knownHere().mutex);
    knownHere().bandwidths[nameOf(device)] = bandwidth;
    keepValue(kFile, nameOf(device), bandwidth);
}

} // namespace nibble
