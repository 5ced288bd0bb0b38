#include "core/runtime/cpu/kernels.h"

#include <array>
#include <cstdlib>
#include <string_view>

namespace nibble {

std::span<const CpuKernels* const> kernelSets() {
#if defined(__x86_64__)
    static constexpr std::array<const CpuKernels*, 3> kSets{&kAvx512Kernels, &kAvx2Kernels,
                                                            &kScalarKernels};
#elif defined(__aarch64__)
    static constexpr std::array<const CpuKernels*, 3> kSets{&kDotprodKernels, &kNeonKernels,
                                                            &kScalarKernels};
#else
    static constexpr std::array<const CpuKernels*, 1> kSets{&kScalarKernels};
#endif
    return kSets;
}

float* threadScratch(size_t count) {
    thread_local AlignedBuffer<float> scratch;
    if (scratch.size() < count)
        scratch = AlignedBuffer<float>(count);
    return scratch.data();
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
