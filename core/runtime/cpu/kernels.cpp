#include "core/runtime/cpu/kernels.h"

#include <array>
#include <cstdlib>
#include <string_view>

namespace nibble {

std::span<const CpuKernels* const> kernelSets() {
    static constexpr std::array<const CpuKernels*, 1> kSets{&kScalarKernels};
    return kSets;
}

const CpuKernels& bestKernels() {
    const char* text = std::getenv("NIBBLE_CPU_DISABLE");
    const std::string_view disabled = text ? text : "";
    for (const CpuKernels* set : kernelSets())
        if (set->supported() && disabled.find(set->name) == std::string_view::npos)
            return *set;
    return kScalarKernels;
}

} // namespace nibble
