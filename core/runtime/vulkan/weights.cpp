#include "core/runtime/vulkan/weights.h"

#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/tensor/layout.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace nibble {
namespace {

constexpr int64_t kRows = TILE_ROWS;

/// Largest part of a matrix, where the device can bind so much (all can: at least 128 MiB).
constexpr uint64_t kPartBytes = uint64_t(120) << 20;

uint32_t kindOf(const Format& format) {
    switch (format.code) {
    case CodeKind::Float32:
        return KIND_F32;
    case CodeKind::Float16:
        return KIND_F16;
    case CodeKind::BFloat16:
        return KIND_BF16;
    case CodeKind::Uniform:
        return KIND_UNIFORM;
    case CodeKind::Table:
        return KIND_TABLE;
    }
    return KIND_F32;
}

/// A format as the specialization constants of weights.glsl.
KernelConstants constantsOf(const Format& f) {
    KernelConstants c{{ID_KIND, kindOf(f)}};
    if (f.isFloat()) {
        c[ID_GROUP] = 0;
        c[ID_SCALE] = SCALE_NONE;
        return c;
    }
    c[ID_LOW] = static_cast<uint32_t>(f.lowBits());
    c[ID_HIGH] = static_cast<uint32_t>(f.highBits());
    c[ID_ZERO] = static_cast<uint32_t>(f.zero);
    c[ID_GROUP] = f.group;
    c[ID_SCALE] = static_cast<uint32_t>(f.scale);
    c[ID_SCALE_BITS] = 8; // codes of 4 and 6 bits lie in bytes
    c[ID_SCALE_ZERO] = static_cast<uint32_t>(f.scaleZero);
    c[ID_OFFSET] = static_cast<uint32_t>(f.offset);
    c[ID_OFFSET_BITS] = 8;
    c[ID_SUPER] = f.super;
    // The kernel reads e8m0 as 2^(e − 128), which is a float32 for every e.
    c[ID_UNIT] = std::bit_cast<uint32_t>(f.scale == ScaleKind::E8M0 ? f.unit * 2 : f.unit);
    if (f.table)
        for (uint32_t i = 0; i < 16; ++i) {
            c[ID_EXACT + i] = std::bit_cast<uint32_t>(f.table->exact[i] / f.unit);
            c[ID_TABLE0 + i / 4] |= uint32_t(static_cast<uint8_t>(f.table->integer[i]))
                                    << (i % 4 * 8);
        }
    return c;
}

/// Float values as records of 32, in the order of code tiles.
LargeVector<uint32_t> tileFloats(const Tensor& t) {
    const size_t width = t.format->bits / 8u, record = 32 * width;
    const int64_t tiles = (t.rows + kRows - 1) / kRows, blocks = t.blocks();
    LargeVector<uint32_t> words(static_cast<size_t>(tiles * blocks * kRows) * record / 4);
    auto* out = reinterpret_cast<std::byte*>(words.data());
    parallelFor(static_cast<size_t>(t.rows), 16, [&](size_t begin, size_t end) {
        for (auto row = static_cast<int64_t>(begin); row < static_cast<int64_t>(end); ++row)
            for (int64_t block = 0; block < blocks; ++block)
                std::memcpy(
                    out +
                        static_cast<size_t>((row / kRows * blocks + block) * kRows + row % kRows) *
                            record,
                    t.codes.data() + static_cast<size_t>(row * t.cols + block * 32) * width,
                    static_cast<size_t>(std::min<int64_t>(32, t.cols - block * 32)) * width);
    });
    return words;
}

/// A tensor's planes one after the other, and where they lie.
LargeVector<uint32_t> placePlanes(const Tensor& t, kernels::Planes& planes) {
    planes.blocks = static_cast<uint32_t>(t.blocks());
    planes.rows = static_cast<uint32_t>(t.rows);
    if (t.format->isFloat())
        return tileFloats(t);
    TiledPlanes tiles = toTiles(t, TileOrder::Rows);
    planes.groups = static_cast<uint32_t>(t.format->groupCount(t.cols));
    planes.supers = static_cast<uint32_t>(t.format->superCount(t.cols));
    planes.highAt = static_cast<uint32_t>(tiles.highPlane);
    LargeVector<uint32_t> words = std::move(tiles.codes);
    const auto append = [&](const LargeVector<uint8_t>& plane) {
        const size_t at = words.size();
        words.resize(at + (plane.size() + 15) / 16 * 4);
        if (!plane.empty())
            std::memcpy(words.data() + at, plane.data(), plane.size());
        return static_cast<uint32_t>(at);
    };
    planes.scaleAt = append(tiles.scales);
    planes.superScaleAt = append(tiles.superScales);
    planes.offsetAt = append(tiles.offsets);
    planes.superOffsetAt = append(tiles.superOffsets);
    planes.outliersAt = append(tiles.outliers);
    planes.columnsAt = static_cast<uint32_t>(words.size());
    planes.columns = static_cast<uint32_t>(tiles.outlierCount());
    for (uint32_t k = 0; k < planes.columns; ++k)
        words.push_back(static_cast<uint32_t>((*tiles.outlierColumns)[k]));
    return words;
}

/// Rows of a part that a kernel can bind, a multiple of a tile's.
int64_t rowsOfPart(const Tensor& t, uint64_t range) {
    const uint64_t rowBytes =
        t.format->isFloat()
            ? static_cast<uint64_t>(t.blocks()) * 32 * t.format->bits / 8
            : t.planeBytes() / static_cast<uint64_t>(std::max<int64_t>(1, t.rows)) + 64;
    const uint64_t partBytes = std::min(kPartBytes, range - 256); // allocations are rounded up
    return std::max<int64_t>(1, static_cast<int64_t>(partBytes / rowBytes) / kRows) * kRows;
}

} // namespace

bool VulkanPaths::avoids(std::string_view format) const {
    return std::find(wrongFormats.begin(), wrongFormats.end(), format) != wrongFormats.end();
}

uint64_t DeviceMatrix::bytes() const {
    return std::accumulate(parts.begin(), parts.end(), uint64_t(0),
                           [](uint64_t sum, const Part& part) { return sum + part.memory.size(); });
}

bool hasKernel(const Format& f, int64_t cols) {
    if (f.isFloat())
        return true;
    if (f.group == 16)
        return cols % 32 == 0 && f.super % 32 == 0;
    return f.group % 32 == 0 && f.super % 32 == 0;
}

Allocation Uploader::upload(std::span<const std::byte> bytes, const char* what) const {
    Allocation to = memory->allocate(bytes.size(), what);
    write(bytes, to, 0);
    return to;
}

void Uploader::write(std::span<const std::byte> bytes, const Allocation& to,
                     uint64_t offset) const {
    if (to.mapped()) {
        std::memcpy(static_cast<std::byte*>(to.mapped()) + offset, bytes.data(), bytes.size());
        return;
    }
    constexpr size_t kStaging = size_t(16) << 20;
    const Allocation staging = host->allocate(std::min(bytes.size(), kStaging), "Staging");
    for (size_t at = 0; at < bytes.size(); at += kStaging) {
        const size_t count = std::min(kStaging, bytes.size() - at);
        std::memcpy(staging.mapped(), bytes.data() + at, count);
        BufferView view = to;
        view.offset += offset + at;
        Recording recording(device, pipelines, to);
        recording.copy(staging, view, count);
        recording.finish();
        recording.run();
    }
}

LargeVector<uint32_t> Uploader::planesOf(const Tensor& tensor, kernels::Planes& planes) {
    return placePlanes(tensor, planes);
}

KernelConstants Uploader::constants(const Format& format) {
    return constantsOf(format);
}

Tensor withKernel(const Tensor& t, const Activations& activations, const VulkanPaths& paths) {
    // No kernel gathers activations by a column order.
    if (hasKernel(*t.format, t.cols) && !paths.avoids(t.format->name) && !t.columnOrder &&
        (paths.outliers || !inputForm(t, activations).hasOutliers()))
        return t;
    const char* other = t.format->isFloat() || paths.avoids("f16") ? "f32" : "f16";
    return makeFloatTensor(t.name, getFormat(other), t.rows, t.cols, decode(t));
}

uint32_t DeviceForm::outliers() const {
    return (form.columns ? OUTLIERS_COLUMNS : 0u) | (form.threshold > 0 ? OUTLIERS_VALUES : 0u);
}

std::shared_ptr<const DeviceForm> Uploader::uploadForm(const InputForm& form, int64_t cols) const {
    auto made = std::make_shared<DeviceForm>();
    made->form = form;
    if (!form.hasOutliers() && form.scale == 0)
        return made;
    std::vector<uint32_t> words(static_cast<size_t>(FORM_MASK + (cols + 31) / 32));
    words[FORM_THRESHOLD] = std::bit_cast<uint32_t>(form.threshold);
    words[FORM_SCALE] = std::bit_cast<uint32_t>(form.scale);
    if (form.columns) {
        words[FORM_COLUMNS] = static_cast<uint32_t>(form.columns->size());
        for (const int32_t column : *form.columns)
            words[static_cast<size_t>(FORM_MASK + column / 32)] |= 1u << (column % 32);
        words.insert(words.end(), form.columns->begin(), form.columns->end());
    }
    made->memory = upload(std::as_bytes(std::span(words)), "A tensor");
    return made;
}

DeviceMatrix Uploader::uploadMatrix(const Tensor& tensor, std::span<const int64_t> order) const {
    DeviceMatrix matrix;
    matrix.format = tensor.format;
    matrix.rows = tensor.rows;
    matrix.cols = tensor.cols;
    matrix.constants = constantsOf(*tensor.format);
    const int64_t partRows = rowsOfPart(tensor, device->limits().maxStorageBufferRange);
    for (int64_t first = 0; first < tensor.rows; first += partRows) {
        const int64_t count = std::min(partRows, tensor.rows - first);
        DeviceMatrix::Part part;
        part.planes = {};
        LargeVector<uint32_t> words;
        if (order.empty() && count == tensor.rows) {
            words = placePlanes(tensor, part.planes);
        } else {
            std::vector<int64_t> rows(static_cast<size_t>(count));
            for (int64_t i = 0; i < count; ++i)
                rows[static_cast<size_t>(i)] =
                    order.empty() ? first + i : order[static_cast<size_t>(first + i)];
            words = placePlanes(gatherRows(tensor, rows), part.planes);
        }
        part.planes.firstRow = static_cast<uint32_t>(first);
        part.memory = upload(std::as_bytes(std::span(words)), "A tensor");
        matrix.parts.push_back(std::move(part));
    }
    return matrix;
}

} // namespace nibble
