#include "core/base/atomic_file.h"
#include "core/base/cache_folder.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/runtime/kernel_bench.h"
#include "core/serve/bench.h"
#include "core/serve/plan.h"

#include <nlohmann/json.hpp>

#include <map>
#include <mutex>

namespace nibble {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kFileBytes = 1 << 20;

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

/// Empty where the user has no folder for it.
std::filesystem::path keptFile() {
    const std::filesystem::path folder = cacheFolder();
    return folder.empty() ? folder : folder / "bandwidth.json";
}

Json readKept() {
    const std::filesystem::path file = keptFile();
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(file, ignored))
        return Json::object();
    try {
        Json kept = Json::parse(readTextFile(file, kFileBytes), nullptr, false);
        return kept.is_object() ? kept : Json::object();
    } catch (const Error&) { // it can be measured again
        return Json::object();
    }
}

void writeKept(const std::string& name, double bandwidth) {
    if (keptFile().empty())
        return;
    Json kept = readKept();
    kept[name] = bandwidth;
    try {
        writeFileAtomically(keptFile(), kept.dump(2, ' ', false, Json::error_handler_t::replace));
    } catch (const Error&) { // then the next run measures it again
        return;
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
    const Json kept = readKept();
    if (const auto at = kept.find(name);
        at != kept.end() && at->is_number() && at->get<double>() > 0)
        return known[name] = at->get<double>();
    const auto found = known[name] = measured(backend, device);
    if (found)
        writeKept(name, *found);
    return found;
}

void keepBandwidth(const DeviceInfo& device, double bandwidth) {
    const std::scoped_lock lock(knownHere().mutex);
    knownHere().bandwidths[nameOf(device)] = bandwidth;
    writeKept(nameOf(device), bandwidth);
}

} // namespace nibble
