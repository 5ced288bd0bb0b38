#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/json_text.h"
#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

/// bitsandbytes, for a weight of `out` rows and `in` columns.
/// NF4, in blocks along the flattened rows, the first of two values in a byte's high half:
///   weight              u8 [out·in/2, 1]
///   weight.quant_map    f32 [16]
///   weight.absmax       f32 [blocks], or u8 with double quantization; then
///   weight.nested_absmax f32, weight.nested_quant_map f32 [256]:
///       absmax = nested_quant_map[code] · nested_absmax[block / nested_blocksize] + nested_offset
///   weight.quant_state.bitsandbytes__nf4   u8, JSON: shape, blocksize, nested_blocksize, …
/// LLM.int8():
///   weight  i8 [out, in]
///   SCB     f32 [out]   largest magnitude of the row: w = code · SCB / 127
///   weight_format  u8   0 = row by row
namespace nibble {
namespace {

constexpr int kStateDepth = 8;
constexpr size_t kStateBytes = 65'536;

struct Nf4 {
    const Format* format;
    std::string source, stem;
    int64_t rows, cols, block, nestedBlock = 0;
    float nestedOffset = 0;
    TensorInfo codes, map, absmax, nestedAbsmax, nestedMap;
};

float largest(const Nf4& n, int64_t block) {
    if (n.nestedBlock == 0)
        return loadAt<float>(n.absmax.bytes, block);
    const auto code = loadAt<uint8_t>(n.absmax.bytes, block);
    const float product = loadAt<float>(n.nestedMap.bytes, code) *
                          loadAt<float>(n.nestedAbsmax.bytes, block / n.nestedBlock);
    return product + n.nestedOffset;
}

Tensor load(const Nf4& n, const std::string& name) {
    // Codes mean what the published table says; another table would be another format.
    for (int i = 0; i < 16; ++i) {
        const float stored = loadAt<float>(n.map.bytes, i);
        if (!(std::fabs(stored - n.format->table->exact[static_cast<size_t>(i)]) <= 1e-6f))
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" holds {} as value {}, where NF4 has {}. The file is damaged, "
                 "or of a format that is not known here.",
                 n.source, printable(n.map.name), stored, i,
                 n.format->table->exact[static_cast<size_t>(i)]);
    }
    TensorBuilder builder(name, *n.format, n.rows, n.cols);
    const int64_t groups = n.format->groupCount(n.cols);
    parallelFor(static_cast<size_t>(n.rows), 16, [&](size_t begin, size_t end) {
        std::vector<uint8_t> codes(static_cast<size_t>(n.cols));
        for (auto row = static_cast<int64_t>(begin); row < static_cast<int64_t>(end); ++row) {
            for (int64_t i = 0; i < n.cols; ++i) {
                const auto pair = loadAt<uint8_t>(n.codes.bytes, (row * n.cols + i) / 2);
                codes[static_cast<size_t>(i)] =
                    static_cast<uint8_t>(i % 2 == 0 ? pair >> 4 : pair & 15);
            }
            builder.setCodes(row, codes.data());
            for (int64_t k = 0; k < groups; ++k)
                builder.setScale(row, k,
                                 std::bit_cast<uint32_t>(
                                     largest(n, (row * n.cols + k * n.format->group) / n.block)));
        }
    });
    if (n.codes.mapped)
        releasePages(n.codes.bytes.view());
    return builder.finish();
}

/// The JSON that a tensor of bytes holds.
nlohmann::json readState(PackedParts& parts) {
    const TensorInfo& info = parts.get(".weight.quant_state.bitsandbytes__nf4", {"u8"});
    if (info.bytes.size() > kStateBytes)
        parts.damaged(info.name, fmt::format("{} bytes", info.bytes.size()),
                      fmt::format("a JSON text of at most {}", kStateBytes));
    const std::string_view text(reinterpret_cast<const char*>(info.bytes.data()),
                                info.bytes.size());
    nlohmann::json state = parseJson(text, parts.source() + ": " + info.name, kStateDepth);
    if (!state.is_object())
        parts.damaged(info.name, "no JSON object", "one");
    return state;
}

int64_t positive(PackedParts& parts, const nlohmann::json& value, const char* field) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() == 0 ||
        value.get<uint64_t>() > (uint64_t(1) << 31))
        parts.damaged(parts.stem() + ".weight.quant_state.bitsandbytes__nf4",
                      fmt::format("{} in \"{}\"", printable(value.dump()), field),
                      "a positive number");
    return value.get<int64_t>();
}

} // namespace

PackedWeight readNf4(PackedParts& parts) {
    const nlohmann::json state = readState(parts);
    const auto member = [&](const char* key) {
        return state.contains(key) ? state[key] : nlohmann::json();
    };
    Nf4 n;
    n.format = &getFormat("nf4");
    n.source = parts.source();
    n.stem = parts.stem();
    const nlohmann::json shape = member("shape");
    if (!shape.is_array() || shape.size() != 2)
        parts.damaged(parts.stem() + ".weight.quant_state.bitsandbytes__nf4",
                      fmt::format("{} in \"shape\"", printable(shape.dump())), "two numbers");
    n.rows = positive(parts, shape[0], "shape");
    n.cols = positive(parts, shape[1], "shape");
    n.block = positive(parts, member("blocksize"), "blocksize");
    n.codes = parts.get(".weight", {"u8", "bf16", "f16", "f32"});
    if (std::string_view(n.codes.type->name) != "u8")
        parts.unread(fmt::format("NF4 stored as {} (u8 is read)", n.codes.type->name));
    if (n.rows * n.cols % 2 != 0 || n.codes.values() != n.rows * n.cols / 2)
        parts.damaged(n.codes.name, fmt::format("{} bytes", n.codes.values()),
                      fmt::format("half of {} x {} values", n.rows, n.cols));
    const int64_t group = n.format->group;
    if (n.cols % group != 0 || n.block % group != 0)
        parts.unread(fmt::format("NF4 with rows of {} values in blocks of {} (multiples of {} are "
                                 "read)",
                                 n.cols, n.block, group));
    const int64_t blocks = (n.rows * n.cols + n.block - 1) / n.block;
    n.map = parts.get(".weight.quant_map", {"f32"});
    parts.require(n.map, {16});
    n.absmax = parts.get(".weight.absmax", {"f32", "u8"});
    parts.require(n.absmax, {blocks});
    if (std::string_view(n.absmax.type->name) == "u8") {
        n.nestedBlock = positive(parts, member("nested_blocksize"), "nested_blocksize");
        const nlohmann::json offset = member("nested_offset");
        if (!offset.is_number())
            parts.damaged(parts.stem() + ".weight.quant_state.bitsandbytes__nf4",
                          fmt::format("{} in \"nested_offset\"", printable(offset.dump())),
                          "a number");
        n.nestedOffset = offset.get<float>();
        n.nestedAbsmax = parts.get(".weight.nested_absmax", {"f32"});
        n.nestedMap = parts.get(".weight.nested_quant_map", {"f32"});
        parts.require(n.nestedAbsmax, {(blocks + n.nestedBlock - 1) / n.nestedBlock});
        parts.require(n.nestedMap, {256});
    }
    PackedWeight weight;
    weight.format = n.format;
    weight.rows = n.rows;
    weight.cols = n.cols;
    weight.codes = n.codes.bytes;
    weight.load = [shared = std::make_shared<const Nf4>(std::move(n))](const std::string& name) {
        return load(*shared, name);
    };
    return weight;
}

PackedWeight readFp4(PackedParts& parts) {
    parts.unread("quantized to bitsandbytes' FP4");
}

PackedWeight readLlmInt8(PackedParts& parts) {
    const TensorInfo codes = parts.get(".weight", {"i8"});
    const TensorInfo scales = parts.get(".SCB", {"f32"});
    if (codes.dims.size() != 2)
        parts.damaged(codes.name, fmt::format("of {} dimensions", codes.dims.size()), "2");
    const int64_t rows = codes.dims[0], cols = codes.dims[1];
    if (scales.values() != rows)
        parts.damaged(scales.name, fmt::format("of {} values", scales.values()),
                      fmt::format("{}, one a row,", rows));
    if (parts.find(".weight_format")) {
        const TensorInfo& layout = parts.get(".weight_format", {"u8"});
        if (loadAt<uint8_t>(layout.bytes, 0) != 0)
            parts.unread("stored in the tile layout of one kind of GPU");
    }
    PackedWeight weight;
    weight.format = &getFormat("int8");
    weight.rows = rows;
    weight.cols = cols;
    weight.codes = codes.bytes;
    weight.load = [=](const std::string& name) {
        TensorBuilder builder(name, getFormat("int8"), rows, cols);
        for (int64_t row = 0; row < rows; ++row) {
            builder.setCodes(row,
                             reinterpret_cast<const uint8_t*>(codes.bytes.data()) + row * cols);
            builder.setScale(row, 0,
                             std::bit_cast<uint32_t>(loadAt<float>(scales.bytes, row) / 127.0f));
        }
        if (codes.mapped)
            releasePages(codes.bytes.view());
        return builder.finish();
    };
    return weight;
}

} // namespace nibble
