#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

/// compressed-tensors, as llm-compressor writes and vLLM reads it, for `out` rows and `in` columns.
/// pack-quantized:
///   weight_packed      i32 [out, ⌈in·b/32⌉]   code + 2^(b−1), 32/b a word, low bits first
///   weight_scale       f16, bf16 or f32 [out, groups]
///   weight_zero_point  i32 [⌈out·b/32⌉, groups]   likewise, packed along the rows; may be absent
///   weight_g_idx       i32 [in]   the group of each column; may be absent
///   weight_shape       i64 [2]
/// int-quantized:
///   weight             i8 [out, in]
///   weight_scale, weight_zero_point (i8)   [out, groups]
///   input_scale        f16, bf16 or f32 [1]   the step of the input's codes, where it is static
/// w = scale · (code − zero point).
namespace nibble {
namespace {

constexpr int64_t kRowsAtOnce = 16;

struct Compressed {
    std::string source, stem;
    const Format* format;
    int bits;
    int64_t rows, cols, group, groups;
    bool bytes;       ///< int-quantized
    float inputScale; ///< 0 where activations have a scale a token
    TensorInfo codes, zeros, scales, order;

    int64_t perWord() const { return 32 / bits; }
    int64_t rowWords() const { return (cols + perWord() - 1) / perWord(); }
};

void readRow(const Compressed& c, int64_t row, const std::vector<int32_t>& placeOf, uint8_t* out) {
    for (int64_t col = 0; col < c.cols; ++col) {
        const int64_t place = placeOf.empty() ? col : placeOf[static_cast<size_t>(col)];
        out[place] = c.bytes ? loadAt<uint8_t>(c.codes.bytes, row * c.cols + col)
                             : storedCode(*c.format, loadField(c.codes.bytes, row * c.rowWords(), 1,
                                                               col, c.bits));
    }
}

uint16_t readZero(const Compressed& c, int64_t row, int64_t group) {
    if (c.bytes)
        return static_cast<uint16_t>(loadAt<uint8_t>(c.zeros.bytes, row * c.groups + group) ^ 0x80);
    return static_cast<uint16_t>(loadField(c.zeros.bytes, group, c.groups, row, c.bits));
}

Tensor load(const Compressed& c, const std::string& name) {
    const Format& f = *c.format;
    std::shared_ptr<const std::vector<int32_t>> order;
    if (!c.order.bytes.empty()) {
        std::vector<int32_t> groups(static_cast<size_t>(c.cols));
        for (int64_t i = 0; i < c.cols; ++i)
            groups[static_cast<size_t>(i)] = loadAt<int32_t>(c.order.bytes, i);
        // −1 throughout: a place that was never filled.
        if (std::ranges::any_of(groups, [](int32_t group) { return group != -1; }))
            order = orderOfGroups(groups, c.group, c.groups, c.source, c.order.name);
    }
    std::vector<int32_t> placeOf(order ? order->size() : 0);
    for (size_t j = 0; j < placeOf.size(); ++j)
        placeOf[static_cast<size_t>((*order)[j])] = static_cast<int32_t>(j);
    TensorBuilder builder(name, f, c.rows, c.cols);
    parallelFor(static_cast<size_t>(c.rows), kRowsAtOnce, [&](size_t begin, size_t end) {
        std::vector<uint8_t> codes(static_cast<size_t>(c.cols));
        for (auto row = static_cast<int64_t>(begin); row < static_cast<int64_t>(end); ++row) {
            readRow(c, row, placeOf, codes.data());
            builder.setCodes(row, codes.data());
            for (int64_t k = 0; k < f.groupCount(c.cols); ++k) {
                const int64_t group = k * f.groupLength(c.cols) / c.group;
                const int64_t scale = c.scales.values() == 1 ? 0 : row * c.groups + group;
                builder.setScale(row, k, packedScale(c.scales, scale, f));
                if (f.offset == OffsetKind::Zero)
                    builder.setOffset(row, k, readZero(c, row, group));
            }
        }
    });
    if (c.codes.mapped)
        releasePages(c.codes.bytes.view());
    Tensor tensor = builder.finish();
    tensor.columnOrder = order;
    tensor.inputScale = c.inputScale;
    return tensor;
}

/// What the configuration says of the layer's weights: the first group of layers that its class or
/// name is a target of, or the only one.
class GroupConfig {
public:
    explicit GroupConfig(const PackedParts& parts) : m_parts(parts) {
        const Metadata& m = parts.metadata();
        const std::string all = parts.key("config_groups.");
        std::string first;
        for (auto at = m.entries.lower_bound(all);
             at != m.entries.end() && at->first.starts_with(all); ++at) {
            const std::string name = at->first.substr(0, at->first.find('.', all.size()) + 1);
            if (first.empty())
                first = name;
            const auto* targets = m.findStrings(name + "targets");
            if (m_prefix.empty() && targets && std::ranges::any_of(*targets, [&](const auto& t) {
                    return t == "Linear" || t == parts.stem();
                }))
                m_prefix = name;
        }
        if (m_prefix.empty())
            m_prefix = first;
        if (m_prefix.empty())
            parts.badConfig("config_groups", "a table of what the layers have in common");
    }
    int64_t integer(const char* key, int64_t fallback) const {
        return m_parts.metadata().integerOr(m_prefix + key, fallback);
    }
    bool boolean(const char* key, bool fallback) const {
        return m_parts.metadata().booleanOr(m_prefix + key, fallback);
    }
    std::string text(const char* key) const {
        return m_parts.metadata().stringOr(m_prefix + key, "");
    }
    /// The key as badConfig wants it.
    std::string name(const char* key) const {
        return m_prefix.substr(std::string_view(kQuantizerConfig).size()) + key;
    }

private:
    const PackedParts& m_parts;
    std::string m_prefix;
};

/// The one scale that a folder gives the input of a weight, or 0 where it has a scale a token, or a
/// zero point, with which nothing here runs.
float readInputScale(PackedParts& parts, const GroupConfig& config) {
    const TensorInfo* zero = parts.find(".input_zero_point");
    if (!parts.find(".input_scale") || config.boolean("input_activations.dynamic", false) ||
        config.integer("input_activations.num_bits", 0) != 8)
        return 0;
    const auto isZero = [](std::byte byte) { return byte == std::byte{0}; };
    if (!config.boolean("input_activations.symmetric", true) ||
        (zero && !std::ranges::all_of(zero->bytes.view(), isZero)))
        return 0;
    const TensorInfo& stored = parts.get(".input_scale", {"f16", "bf16", "f32"});
    const float scale = stored.values() == 1 ? decode(loadTensor(stored)).front() : 0;
    if (!(scale > 0) || !std::isfinite(scale))
        parts.damaged(stored.name,
                      stored.values() == 1 ? fmt::format("the value {}", scale)
                                           : fmt::format("{} values", stored.values()),
                      "one number larger than 0");
    return scale;
}

/// Fills in scales, groups, zero points and format of a weight whose codes are known.
PackedWeight complete(PackedParts& parts, const GroupConfig& config, Compressed c) {
    const std::string strategy = config.text("weights.strategy");
    const bool grouped = strategy == "group";
    if (!grouped && strategy != "channel" && strategy != "tensor")
        parts.unread(fmt::format("quantized by the strategy \"{}\"", printable(strategy)));
    c.scales = parts.get(".weight_scale", {"f16", "bf16", "f32"});
    c.group = grouped ? config.integer("weights.group_size", 0) : c.cols;
    if (grouped && (c.group < 16 || c.group % 16 != 0))
        parts.badConfig(config.name("weights.group_size"), "a multiple of 16");
    c.groups = (c.cols + c.group - 1) / c.group;
    const bool oneScale = strategy == "tensor" && c.scales.values() == 1;
    const bool oneEach = c.groups == 1 && c.scales.dims == std::vector<int64_t>{c.rows};
    if (!oneScale && !oneEach)
        parts.require(c.scales, {c.rows, c.groups});
    if (parts.find(".weight_zero_point")) {
        if (c.bytes) {
            c.zeros = parts.get(".weight_zero_point", {"i8"});
            parts.require(c.zeros, {c.rows, c.groups});
        } else {
            c.zeros = parts.get(".weight_zero_point", {"i32"});
            parts.require(c.zeros, {(c.rows + c.perWord() - 1) / c.perWord(), c.groups});
        }
    }
    const bool zeros = !config.boolean("weights.symmetric", true);
    if (zeros && c.zeros.bytes.empty())
        parts.get(".weight_zero_point", {c.bytes ? "i8" : "i32"});
    if (parts.find(".weight_g_idx")) {
        c.order = parts.get(".weight_g_idx", {"i32"});
        parts.require(c.order, {c.cols});
    }
    c.format = packedFormat(c.bits, grouped ? c.group : 0, zeros, *c.scales.type);
    if (!c.format)
        parts.unread(fmt::format("{} bits with scales of type {}", c.bits, c.scales.type->name));
    PackedWeight weight;
    c.inputScale = readInputScale(parts, config);
    weight.staticActivations = c.inputScale > 0;
    if (!weight.staticActivations && parts.find(".input_scale"))
        weight.note = "The folder fixes the scales of activations; here they get one for each "
                      "token instead.";
    parts.find(".input_global_scale");
    weight.format = c.format;
    weight.rows = c.rows;
    weight.cols = c.cols;
    weight.codes = c.codes.bytes;
    weight.tokenActivations = config.integer("input_activations.num_bits", 0) == 8;
    c.source = parts.source();
    c.stem = parts.stem();
    weight.load = [shared = std::make_shared<const Compressed>(std::move(c))](
                      const std::string& name) { return load(*shared, name); };
    return weight;
}

} // namespace

PackedWeight readPackQuantized(PackedParts& parts) {
    const GroupConfig config(parts);
    Compressed c{};
    c.codes = parts.get(".weight_packed", {"i32", "u8"});
    const int64_t bits = config.integer("weights.num_bits", 0);
    if (std::string_view(c.codes.type->name) != "i32" || config.text("weights.type") == "float")
        parts.unread("packed as floats");
    if (bits != 2 && bits != 4 && bits != 8)
        parts.unread(fmt::format("packed to {} bits (2, 4 and 8 are read)", bits));
    c.bits = static_cast<int>(bits);
    const TensorInfo& shape = parts.get(".weight_shape", {"i64", "i32"});
    if (shape.values() != 2)
        parts.damaged(shape.name, fmt::format("of {} values", shape.values()), "2");
    const bool wide = std::string_view(shape.type->name) == "i64";
    c.rows = wide ? loadAt<int64_t>(shape.bytes, 0) : loadAt<int32_t>(shape.bytes, 0);
    c.cols = wide ? loadAt<int64_t>(shape.bytes, 1) : loadAt<int32_t>(shape.bytes, 1);
    // Compared with the codes before anything is computed from it.
    if (c.codes.dims.size() != 2 || c.rows != c.codes.dims[0] || c.cols <= 0 ||
        c.cols > c.codes.dims[1] * c.perWord() || c.rowWords() != c.codes.dims[1])
        parts.damaged(shape.name, fmt::format("{} x {}", c.rows, c.cols),
                      fmt::format("the shape of the {} x {} words of \"{}\"", c.codes.dims.front(),
                                  c.codes.cols(), printable(c.codes.name)));
    return complete(parts, config, std::move(c));
}

PackedWeight readIntQuantized(PackedParts& parts) {
    const GroupConfig config(parts);
    if (config.text("weights.type") == "float")
        parts.unread("quantized to 8-bit floats (float-quantized)");
    Compressed c{};
    c.bytes = true;
    c.bits = 8;
    if (config.integer("weights.num_bits", 8) != 8)
        parts.unread(fmt::format("kept in bytes but quantized to {} bits",
                                 config.integer("weights.num_bits", 8)));
    c.codes = parts.get(".weight", {"i8"});
    if (c.codes.dims.size() != 2)
        parts.damaged(c.codes.name, fmt::format("of {} dimensions", c.codes.dims.size()), "2");
    c.rows = c.codes.dims[0];
    c.cols = c.codes.dims[1];
    return complete(parts, config, std::move(c));
}

namespace {

std::string refusesPacked(const Format& f, int64_t rows, int64_t cols, bool ordered) {
    if (std::string why = refuseGroups(f, {4, 8}, cols); !why.empty())
        return why;
    if (ordered)
        return "engines differ in how they read its order of columns (act-order)";
    if (cols * f.bits % 32 != 0 || rows * f.bits % 32 != 0)
        return fmt::format("{} x {} values of {} bits do not fill its 32-bit words", rows, cols,
                           int(f.bits));
    return {};
}

std::vector<PackedPart> packedParts(const Format& f, int64_t rows, int64_t cols, bool) {
    const int64_t groups = f.groupCount(cols), bits = f.bits;
    std::vector<PackedPart> parts{{".weight_shape", "I64", {2}},
                                  {".weight_packed", "I32", {rows, cols * bits / 32}}};
    if (f.offset == OffsetKind::Zero)
        parts.push_back({".weight_zero_point", "I32", {rows * bits / 32, groups}});
    parts.push_back({".weight_scale", "F16", {rows, groups}});
    return parts;
}

std::vector<Bytes> pack(const Tensor& t) {
    const Format& f = *t.format;
    const int64_t groups = f.groupCount(t.cols), rowWords = t.cols * f.bits / 32;
    std::vector<uint32_t> codes(static_cast<size_t>(t.rows * rowWords));
    std::vector<uint32_t> zeros(static_cast<size_t>(t.rows * f.bits / 32 * groups));
    std::vector<uint16_t> scales(static_cast<size_t>(t.rows * groups));
    // Rows whose zero points share no word with another thread's.
    constexpr int64_t kChunk = 32;
    parallelFor(
        static_cast<size_t>((t.rows + kChunk - 1) / kChunk), 1, [&](size_t first, size_t last) {
            std::vector<uint8_t> row(static_cast<size_t>(t.cols));
            const int64_t end = std::min(t.rows, static_cast<int64_t>(last) * kChunk);
            for (int64_t r = static_cast<int64_t>(first) * kChunk; r < end; ++r) {
                plainCodes(t, r, row.data());
                for (int64_t i = 0; i < t.cols; ++i)
                    storeField(codes.data() + r * rowWords, 1, i, f.bits,
                               row[static_cast<size_t>(i)]);
                for (int64_t k = 0; k < groups; ++k) {
                    scales[static_cast<size_t>(r * groups + k)] = halfScale(f, rawScale(t, r, k));
                    storeField(zeros.data() + k, groups, r, f.bits, plainZero(t, r, k));
                }
            }
        });
    std::vector<Bytes> parts{Bytes::of(std::vector<int64_t>{t.rows, t.cols}),
                             Bytes::of(std::move(codes))};
    if (f.offset == OffsetKind::Zero)
        parts.push_back(Bytes::of(std::move(zeros)));
    parts.push_back(Bytes::of(std::move(scales)));
    return parts;
}

std::string refusesBytes(const Format& f, int64_t, int64_t, bool ordered) {
    const bool fits = f.code == CodeKind::Uniform && f.bits == 8 && f.group == 0 &&
                      f.scale == ScaleKind::F32 && f.offset == OffsetKind::None && !ordered;
    return fits ? "" : "it holds 8-bit integers with one scale a row (int8)";
}

std::vector<PackedPart> byteParts(const Format&, int64_t rows, int64_t cols, bool) {
    return {{".weight_scale", "F32", {rows, 1}}, {".weight", "I8", {rows, cols}}};
}

std::vector<Bytes> packBytes(const Tensor& t) {
    std::vector<float> scales(static_cast<size_t>(t.rows));
    std::vector<uint8_t> codes(static_cast<size_t>(t.values()));
    for (int64_t r = 0; r < t.rows; ++r) {
        unpackCodes(t, r, codes.data() + r * t.cols);
        scales[static_cast<size_t>(r)] = std::bit_cast<float>(rawScale(t, r, 0));
    }
    return {Bytes::of(std::move(scales)), Bytes::of(std::move(codes))};
}

std::vector<PackedPart> staticByteParts(const Format& f, int64_t rows, int64_t cols, bool ordered) {
    std::vector<PackedPart> parts = byteParts(f, rows, cols, ordered);
    parts.insert(parts.begin(), {".input_scale", "F32", {1}});
    return parts;
}

std::vector<Bytes> packStaticBytes(const Tensor& t) {
    if (!(t.inputScale > 0))
        fail(ErrorKind::Internal, "Tensor \"{}\" has no scale for its input.", printable(t.name));
    std::vector<Bytes> parts = packBytes(t);
    parts.insert(parts.begin(), Bytes::of(std::vector<float>{t.inputScale}));
    return parts;
}

} // namespace

const PackingWriter kPackQuantizedWriter{"pack-quantized", refusesPacked, packedParts, pack};
const PackingWriter kIntQuantizedWriter{"int-quantized", refusesBytes, byteParts, packBytes};
const PackingWriter kStaticIntQuantizedWriter{"int-quantized", refusesBytes, staticByteParts,
                                              packStaticBytes};

} // namespace nibble
