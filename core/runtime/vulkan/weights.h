#pragma once

#include "core/base/large_allocator.h"
#include "core/runtime/input_form.h"
#include "core/runtime/vulkan/paths.h"
#include "core/runtime/vulkan/recording.h"

namespace nibble {

/// How the input of products is prepared, with what the kernels read of it (FORM_… in
/// interface.h); no memory where they read nothing.
struct DeviceForm {
    InputForm form;
    Allocation memory;

    /// OUTLIERS_… bits.
    uint32_t outliers() const;
};

/// A matrix on the device, in tiles, cut by rows where it exceeds what a kernel can bind.
struct DeviceMatrix {
    struct Part {
        Allocation memory;
        kernels::Planes planes;
    };
    const Format* stored = nullptr;         ///< as it was given
    const Format* format = nullptr;         ///< as the kernels see it
    std::shared_ptr<const DeviceForm> form; ///< the same object for equal forms of a stage
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
    std::shared_ptr<MemoryPool> memory, host, written;

    /// Bytes into device memory.
    Allocation upload(std::span<const std::byte> bytes, const char* what) const;
    /// The same into memory that is there, `offset` bytes into it.
    void write(std::span<const std::byte> bytes, const Allocation& to, uint64_t offset) const;
    /// A matrix as the kernels read it, and where its planes lie.
    static LargeVector<uint32_t> planesOf(const Tensor& tensor, kernels::Planes& planes);
    static KernelConstants constants(const Format& format);
    /// A tensor whose row i is row order[i] of the given one (empty: as it is), which has a kernel.
    /// Its form is left to the caller. Error{OutOfMemory}.
    DeviceMatrix uploadMatrix(const Tensor& tensor, std::span<const int64_t> order) const;
    std::shared_ptr<const DeviceForm> uploadForm(const InputForm& form, int64_t cols) const;
};

/// The tensor as the kernels read it, with these activations: itself, or in f16 or f32.
Tensor withKernel(const Tensor& tensor, const Activations& activations, const VulkanPaths& paths);

} // namespace nibble
