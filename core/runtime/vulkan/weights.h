#pragma once

#include "core/runtime/vulkan/paths.h"
#include "core/runtime/vulkan/recording.h"

namespace nibble {

/// A matrix on the device, in tiles, cut by rows where it exceeds what a kernel can bind.
struct DeviceMatrix {
    struct Part {
        Allocation memory;
        kernels::Planes planes;
    };
    const Format* stored = nullptr; ///< as it was given
    const Format* format = nullptr; ///< as the kernels see it
    ActivationFormat activations = ActivationFormat::Float;
    int64_t rows = 0, cols = 0;
    KernelConstants constants;
    std::vector<Part> parts;

    uint64_t bytes() const;
};

/// Whether the kernels can read rows of `cols` values in this format.
bool hasKernel(const Format& format, int64_t cols);

/// What setTensor needs of a device.
struct Uploader {
    std::shared_ptr<VulkanDevice> device;
    std::shared_ptr<Pipelines> pipelines;
    std::shared_ptr<MemoryPool> memory, host;

    /// Bytes into device memory.
    Allocation upload(std::span<const std::byte> bytes, const char* what) const;
    /// A tensor whose row i is row order[i] of the given one (empty: as it is), in a format with
    /// kernels. Error{OutOfMemory}.
    DeviceMatrix uploadMatrix(const Tensor& tensor, ActivationFormat activations,
                              std::span<const int64_t> order, const VulkanPaths& paths) const;
};

} // namespace nibble
