#pragma once

#include "core/runtime/cpu/activation_rows.h"
#include "core/runtime/cpu/kv_layout.h"
#include "core/tensor/layout.h"

#include <span>

namespace nibble {

/// A matrix as a product kernel sees it: canonical planes, or tiles in word order.
struct WeightView {
    const Tensor* tensor = nullptr;
    const TiledPlanes* tiles = nullptr;
    const InputForm& activations;
};

/// out[m · stride + r] = row r of the weights · input row m, for rows [begin, end) and every m.
/// `begin` is a multiple of 16. The order of summation depends on neither m nor the number of rows.
using ProductKernel = void (*)(const WeightView& weights, const ActivationRows& input,
                               int64_t begin, int64_t end, float* out, int64_t stride);

/// How a kernel set multiplies with a format.
struct ProductChoice {
    ProductKernel kernel = nullptr;
    bool tiled = false;
    const char* path = ""; ///< "avx512-vnni, tiles"
};

/// Query rows of one sequence that share a key and value head.
struct AttendTask {
    const KvLayout* layout = nullptr;
    const std::byte* layer = nullptr; ///< the layer's pages
    const int32_t* pages = nullptr;   ///< the sequence's page list
    int32_t kvHead = 0;
    int32_t rows = 0;
    const int32_t* positions = nullptr; ///< of each row, ascending
    const float* queries = nullptr;     ///< first query head of the group, rows `queryStride` apart
    int64_t queryStride = 0;
    float* out = nullptr;
    int64_t outStride = 0;
    float scale = 1;              ///< of q · k
    float cap = 0;                ///< scores → cap · tanh(score / cap); 0 = none
    int32_t window = 0;           ///< tokens that a row attends to, itself included; 0 = all
    const float* sinks = nullptr; ///< a score for each query head of the group that adds nothing
    /// The first token that a row at `position` attends to.
    int32_t first(int32_t position) const {
        return window > 0 && position >= window ? position + 1 - window : 0;
    }
};

/// The steps' arithmetic in one instruction set. Each set is one row in kernelSets().
struct CpuKernels {
    const char* name; ///< "scalar", "avx2", "avx512"
    const char* title;
    bool (*supported)();
    /// out = x / sqrt(mean(x²) + epsilon) · weight
    void (*norm)(const float* x, const float* weight, float epsilon, int64_t count, float* out);
    /// gate = gate / (1 + e^−gate) · up
    void (*gate)(float* gate, const float* up, int64_t count);
    /// Int8 codes of `count` values (a multiple of 32) in blocks (0 = one for all), with each
    /// 32 values' scale and each 16 codes' sum.
    void (*quantize)(const float* x, int64_t count, int block, int8_t* codes, float* scales,
                     int32_t* sums);
    void (*attend)(const AttendTask& task);
    /// Multiplies and adds codes and activations that stay in registers, `times` times; returns how
    /// many multiplications and additions that was: the limit of a core's integer products.
    double (*spin)(int64_t times);
    /// The kernel for a format: there is one for each.
    ProductChoice (*choose)(const Format& format, ActivationFormat activations);
};

/// Scratch of the calling thread, `count` floats; valid until the next call.
float* threadScratch(size_t count);

extern const CpuKernels kScalarKernels, kAvx2Kernels, kAvx512Kernels, kNeonKernels, kDotprodKernels;
/// Best first; the scalar set is the last.
std::span<const CpuKernels* const> kernelSets();
/// The best set that this processor has and NIBBLE_CPU_DISABLE ("avx512,avx2") does not hide.
const CpuKernels& bestKernels();

} // namespace nibble
