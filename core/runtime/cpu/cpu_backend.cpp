#include "core/base/parallel.h"
#include "core/runtime/cpu/cpu_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <unistd.h>

namespace nibble {
namespace {

/// The value after "name :" in a /proc file; empty when there is none.
std::string procValue(const char* file, std::string_view name) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);)
        if (line.starts_with(name))
            if (const size_t at = line.find_first_not_of(" \t:", name.size());
                at != std::string::npos)
                return line.substr(at);
    return {};
}

/// As much as NIBBLE_CPU_MEMORY=BYTES in the environment makes the computer have, for trying what
/// a small one does; 0 where it is not set.
uint64_t memoryLimit() {
    static const uint64_t limit = [] {
        const char* text = std::getenv("NIBBLE_CPU_MEMORY");
        return text ? std::strtoull(text, nullptr, 10) : 0;
    }();
    return limit;
}

class CpuBackend : public Backend {
public:
    explicit CpuBackend(const CpuKernels& kernels) : m_kernels(kernels) {}

    DeviceInfo info() const override {
        DeviceInfo info;
        info.id = &m_kernels == &kScalarKernels ? "cpu:scalar" : "cpu";
        info.name = procValue("/proc/cpuinfo", "model name");
        if (info.name.empty())
            info.name = "CPU";
        info.kind = "cpu";
        info.driver = fmt::format("{}, {} threads", m_kernels.title, threadCount());
        info.memoryBytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                           static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        info.freeBytes = info.memoryBytes;
        if (const std::string free = procValue("/proc/meminfo", "MemAvailable"); !free.empty()) {
            info.freeBytes = std::stoull(free) * 1024;
            info.freeKnown = true;
        }
        if (const uint64_t limit = memoryLimit()) {
            info.memoryBytes = std::min(info.memoryBytes, limit);
            info.freeBytes = std::min(info.freeBytes, limit);
        }
        for (const CpuKernels* set : kernelSets())
            if (set->supported() && set != &kScalarKernels)
                info.features.emplace_back(set->name);
        return info;
    }

    std::unique_ptr<Stage> makeStage(const ModelConfig& config,
                                     const StageOptions& options) override {
        return std::make_unique<CpuStage>(config, options, m_kernels);
    }

    MemoryUse predict(const ModelConfig& config, const StageOptions& options) const override {
        return CpuStage::predict(config, options);
    }
    bool loadsExperts() const override { return true; }

private:
    const CpuKernels& m_kernels;
};

} // namespace

std::shared_ptr<Backend> openCpu(CpuMode mode) {
    return std::make_shared<CpuBackend>(mode == CpuMode::Scalar ? kScalarKernels : bestKernels());
}

} // namespace nibble
