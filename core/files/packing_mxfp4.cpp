#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"

#include <fmt/format.h>

/// MXFP4 as gpt-oss keeps its experts, each of `rows` outputs and 32 · `blocks` inputs:
///   P_blocks u8 [experts, rows, blocks, 16]   value 2j in the low, 2j + 1 in the high nibble j
///   P_scales u8 [experts, rows, blocks]       2^(e − 127)
/// Codes and scales are those of GGUF's mxfp4, which has values j and j + 16 in nibble j.
namespace nibble {
namespace {

constexpr int64_t kValues = 32, kBytes = 16;

struct Mxfp4 {
    int64_t rows, blocks; ///< of all experts; of a row
    TensorInfo codes, scales;
};

Tensor load(const Mxfp4& m, const std::string& name, int64_t first, int64_t count, int64_t step) {
    TensorBuilder builder(name, getFormat("mxfp4"), count, m.blocks * kValues);
    const int64_t rowBytes = m.blocks * kBytes;
    parallelFor(static_cast<size_t>(count), 64, [&](size_t begin, size_t end) {
        std::vector<uint8_t> codes(static_cast<size_t>(m.blocks * kValues));
        for (auto row = static_cast<int64_t>(begin); row < static_cast<int64_t>(end); ++row) {
            const int64_t from = first + row * step;
            for (int64_t i = 0; i < rowBytes; ++i) {
                const auto pair = loadAt<uint8_t>(m.codes.bytes, from * rowBytes + i);
                codes[static_cast<size_t>(2 * i)] = pair & 15;
                codes[static_cast<size_t>(2 * i + 1)] = pair >> 4;
            }
            builder.setCodes(row, codes.data());
            for (int64_t k = 0; k < m.blocks; ++k)
                builder.setScale(row, k, loadAt<uint8_t>(m.scales.bytes, from * m.blocks + k));
        }
    });
    const auto release = [&](const TensorInfo& part, int64_t bytes) {
        if (part.mapped)
            releasePages(
                part.bytes.view().subspan(static_cast<size_t>(first * bytes),
                                          static_cast<size_t>(((count - 1) * step + 1) * bytes)));
    };
    release(m.codes, rowBytes);
    release(m.scales, m.blocks);
    return builder.finish();
}

} // namespace

PackedWeight readMxfp4(PackedParts& parts) {
    Mxfp4 m;
    m.codes = parts.get("_blocks", {"u8"});
    m.scales = parts.get("_scales", {"u8"});
    const std::vector<int64_t>& dims = m.scales.dims;
    if (dims.size() != 3)
        parts.damaged(m.scales.name, fmt::format("of {} dimensions", dims.size()), "3");
    parts.require(m.codes, {dims[0], dims[1], dims[2], kBytes});
    m.rows = dims[0] * dims[1];
    m.blocks = dims[2];
    PackedWeight weight;
    weight.format = &getFormat("mxfp4");
    weight.experts = dims[0];
    weight.rows = m.rows;
    weight.cols = m.blocks * kValues;
    weight.codes = m.codes.bytes;
    const auto shared = std::make_shared<const Mxfp4>(std::move(m));
    weight.loadRows = [shared](const std::string& name, int64_t first, int64_t count,
                               int64_t step) { return load(*shared, name, first, count, step); };
    weight.load = [shared](const std::string& name) {
        Tensor all = load(*shared, name, 0, shared->rows, 1);
        all.experts = shared->scales.dims[0];
        return all;
    };
    return weight;
}

} // namespace nibble
