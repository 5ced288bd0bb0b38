#pragma once

#include "core/runtime/kernel_bench.h"

namespace nibble {

/// benchKernels() for a CPU, with the kernels that it runs as `device`.
KernelReport benchCpuKernels(const DeviceInfo& device, const KernelBenchOptions& options,
                             const Progress& progress);

} // namespace nibble
