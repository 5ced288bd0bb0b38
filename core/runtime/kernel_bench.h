#pragma once

#include "core/base/progress.h"
#include "core/runtime/backend.h"
#include "core/runtime/vulkan/product_tiling.h"

#include <string>
#include <vector>

namespace nibble {

struct KernelBenchOptions {
    struct Shape {
        int64_t rows, cols;
    };
    /// Those of a model of 7 billion parameters.
    std::vector<Shape> shapes{{4096, 4096}, {11008, 4096}, {4096, 11008}};
    std::vector<std::string> formats{"int4_g32", "q4_k", "int8_g32"};
    std::vector<int32_t> rows{1, 2, 4, 8, 16, 512}; ///< activation rows; above 16 a multiple of it
    /// The one that the device is given, the few that a probe tries, or all.
    enum class Tilings : uint8_t { Given, Probe, Every };
    Tilings tilings = Tilings::Given;
};

/// One product kernel, alone between two barriers.
struct KernelTime {
    std::string format;
    int64_t rows = 0, cols = 0; ///< of the matrix
    int32_t activationRows = 0;
    std::string kernel;   ///< "matrix units", "dot, 256 × 1 × 2", "avx512-vnni, tiles"
    ProductTiling tiling; ///< of a Vulkan device
    bool dot = false;     ///< with the dot-product instruction
    double microseconds = 0;
    double bytes = 0;      ///< of the matrix, activations and results
    double operations = 0; ///< multiplications and additions
};

/// A device's limits and how near its product kernels come.
struct KernelReport {
    DeviceInfo device;
    double readBandwidth = 0;       ///< bytes a second
    double dotRate = 0;             ///< multiplications and additions of 8-bit integers a second
    double barrierMicroseconds = 0; ///< of a step with nothing to do; 0 on a CPU
    std::vector<KernelTime> kernels;
};

/// The upper one of two middle values; `values` has at least one.
double medianOf(std::vector<double> values);

/// Measures with as many copies of each matrix as exceed the caches; a CPU with all threads.
/// Error{Usage} for a Vulkan device without a clock.
KernelReport benchKernels(Backend& backend, const KernelBenchOptions& options,
                          const Progress& progress = {});

/// The products of a Vulkan device alone, without the device's limits, which would take longer:
/// until `seconds` have gone by, so that the last rows of `options` may be missing.
std::vector<KernelTime> timeProducts(Backend& backend, const KernelBenchOptions& options,
                                     double seconds);

/// Bytes per second at which all cores together read memory beyond every cache: the best of
/// several passes.
double cpuReadBandwidth(int passes = 5);

/// Bytes a second at which a Vulkan device reads its own memory. Error{Usage} as above,
/// Error{OutOfMemory} when there is no room for what is read.
double vulkanReadBandwidth(Backend& backend);

} // namespace nibble
