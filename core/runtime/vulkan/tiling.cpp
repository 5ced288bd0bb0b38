#include "core/runtime/vulkan/tiling.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string_view>

namespace nibble {
namespace {

/// A software device computes in the vectors of a CPU: what is in flight does not hide latency, it
/// only falls out of the registers. Many rows are bound by reading activations, which two tiles
/// share.
constexpr KernelTiling kSoftware{
    .products = {{{64, 4, 1}, {64, 2, 1}, {64, 1, 1}, {64, 1, 1}, {64, 2, 1}}}};

/// A GPU hides the latency of memory behind many loads in flight.
constexpr KernelTiling kGpu{.products = {{{512, 1, 2, true},
                                          {512, 1, 1, true},
                                          {512, 2, 2, true},
                                          {512, 2, 2, true},
                                          {256, 2, 2, true}}},
                            .prepare = 256,
                            .attention = 256,
                            .prepareWorkgroups = 128,
                            .tailRows = 0};

/// Bytes of shared memory of a product with a tail, at most.
uint32_t sharedBytes(const ProductTiling& tiling, uint32_t rows) {
    return tiling.workgroup * (rows * tiling.tiles + 4) * 4 + 16;
}

/// The tiling, or the largest like it that the device can run.
ProductTiling fit(ProductTiling tiling, uint32_t rows, const VkPhysicalDeviceLimits& limits) {
    while (tiling.tiles > 1 && !fits(tiling, rows, limits))
        tiling.tiles /= 2;
    while (tiling.workgroup > 64 && !fits(tiling, rows, limits))
        tiling.workgroup /= 2;
    return tiling;
}

} // namespace

std::string ProductTiling::text() const {
    return fmt::format("{} × {} × {}", workgroup, tiles, ahead);
}

bool fits(const ProductTiling& tiling, uint32_t rows, const VkPhysicalDeviceLimits& limits) {
    return tiling.workgroup <= limits.maxComputeWorkGroupInvocations &&
           sharedBytes(tiling, rows) <= limits.maxComputeSharedMemorySize;
}

bool isKernel(const ProductTiling& t, uint32_t rows, const VkPhysicalDeviceLimits& limits) {
    const auto oneOf = [](uint32_t value, uint32_t least, uint32_t most) {
        return std::has_single_bit(value) && value >= least && value <= most;
    };
    return oneOf(t.workgroup, 64, 1024) && oneOf(t.tiles, 1, 4) && oneOf(t.ahead, 1, 4) &&
           t.tiles * t.ahead * rows <= 64 && fits(t, rows, limits);
}

const ProductTiling& KernelTiling::product(int32_t rows) const {
    const auto widest = static_cast<uint32_t>(std::min(rows, kWidestRows));
    return products[static_cast<size_t>(std::bit_width(widest) - 1)];
}

uint32_t KernelTiling::prepareParts(uint32_t rows, uint32_t blocks) const {
    const uint32_t words = blocks * 8, most = (words + prepare - 1) / prepare;
    return std::clamp(prepareWorkgroups / std::max(rows, 1u), 1u, std::max(most, 1u));
}

KernelTiling kernelTiling(const VulkanDevice& device) {
    const char* forced = std::getenv("NIBBLE_VULKAN_TILING");
    const std::string_view row = forced ? forced : "";
    KernelTiling tiling =
        row == "gpu" || (row != "software" && !device.isSoftware()) ? kGpu : kSoftware;
    for (uint32_t i = 0; i < tiling.products.size(); ++i)
        tiling.products[i] = fit(tiling.products[i], 1u << i, device.limits());
    for (uint32_t* workgroup : {&tiling.prepare, &tiling.attention})
        *workgroup =
            std::min(*workgroup, std::bit_floor(device.limits().maxComputeWorkGroupInvocations));
    return tiling;
}

bool onMatrixUnits(const DeviceMatrix& w, int32_t rows, const VulkanPaths& paths) {
    return paths.matrix && rows > kWidestRows && !w.form->form.isFloat() && !w.form->outliers() &&
           w.format->group != 16;
}

Dispatch productDispatch(const DeviceMatrix& w, const DeviceMatrix::Part& part, int32_t rows,
                         const ProductTiling& tiling, const VulkanPaths& paths) {
    Dispatch d;
    d.constants = w.constants;
    d.buffers[0] = part.memory;
    const auto count = static_cast<uint32_t>(rows);
    d.work = double(part.planes.rows) * double(w.cols) * count;
    if (onMatrixUnits(w, rows, paths)) {
        d.module = "product_matrix";
        d.x = (part.planes.rows + MATRIX_COLS - 1) / MATRIX_COLS;
        d.y = (count + MATRIX_ROWS - 1) / MATRIX_ROWS;
        return d;
    }
    const bool isFloat = w.form->form.isFloat();
    const uint32_t m = std::min<uint32_t>(count, kWidestRows), ahead = isFloat ? 1 : tiling.ahead;
    d.module = paths.dot && !isFloat ? "product_dot" : "product";
    if (paths.broadcast && !isFloat)
        d.module += "_broadcast";
    d.constants[ID_WORKGROUP] = tiling.workgroup;
    d.constants[ID_M] = m;
    d.constants[ID_TILES] = tiling.tiles;
    d.constants[ID_SUMS] = m * tiling.tiles;
    d.constants[ID_PARTIALS] = tiling.workgroup * m * tiling.tiles;
    d.constants[ID_AHEAD] = ahead;
    d.constants[ID_RECORDS] = ahead * tiling.tiles;
    d.constants[ID_SPREAD] = tiling.spread ? 1 : 0;
    d.constants[ID_FLOAT] = isFloat ? 1 : 0;
    d.constants[ID_OUTLIERS] = w.form->outliers();
    d.x = (part.planes.rows + TILE_ROWS * tiling.tiles - 1) / (TILE_ROWS * tiling.tiles);
    d.y = count / m;
    return d;
}

} // namespace nibble
