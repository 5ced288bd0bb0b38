#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>

/// GPTQ as AutoGPTQ and GPTQModel write it, for a weight of `out` rows and `in` columns:
///   qweight i32 [in·b/32, out]   codes of one row down a column, low bits first; 3 bits straddle
///   qzeros  i32 [groups, out·b/32]   zero points of a group along the rows; v1 stores z − 1
///   scales  f16 [groups, out]
///   g_idx   i32 [in]   the group of each column
/// w = scale · (code − zero point).
namespace nibble {
namespace {

/// Rows whose codes are gathered at a time: 256 bytes of each line of qweight.
constexpr int64_t kRowsAtOnce = 64;

struct Gptq {
    std::string source, stem;
    const Format* format;
    int bits;
    int64_t rows, cols, group, groups; ///< group: columns that share a scale in the file
    bool minusOne, symmetric;
    TensorInfo codes, zeros, scales, order;
};

uint32_t storedZero(const Gptq& g, int64_t row, int64_t group) {
    return loadField(g.zeros.bytes, group * (g.rows * g.bits / 32), 1, row, g.bits);
}

/// What is added to stored zero points. Some quantizers write symmetric weights in v2's form and
/// call them v1: their zero points are the middle itself.
uint32_t zeroShift(const Gptq& g) {
    if (!g.symmetric)
        return g.minusOne ? 1 : 0;
    const uint32_t middle = 1u << (g.bits - 1), first = storedZero(g, 0, 0);
    for (int64_t group = 0; group < g.groups; ++group)
        for (int64_t row = 0; row < g.rows; ++row)
            if (const uint32_t zero = storedZero(g, row, group);
                zero != first || (zero != middle && zero != middle - 1) ||
                (zero != middle && !g.minusOne))
                fail(ErrorKind::BadInput,
                     "{}: tensor \"{}.qzeros\" holds {} in group {}, row {}, where {} is expected "
                     "everywhere, because config.json says \"sym\": true. Correct \"sym\" to false "
                     "or download the files again.",
                     g.source, printable(g.stem), zero, group, row,
                     g.minusOne ? middle - 1 : middle);
    return middle - first;
}

std::shared_ptr<const std::vector<int32_t>> columnOrder(const Gptq& g) {
    if (g.order.bytes.empty())
        return nullptr;
    std::vector<int32_t> groups(static_cast<size_t>(g.cols));
    for (int64_t i = 0; i < g.cols; ++i)
        groups[static_cast<size_t>(i)] = loadAt<int32_t>(g.order.bytes, i);
    // Written by tools that do not use it: the groups are neighbours.
    if (std::ranges::all_of(groups, [](int32_t group) { return group == 0; }))
        return nullptr;
    return orderOfGroups(groups, g.group, g.groups, g.source, g.stem + ".g_idx");
}

/// The codes of rows [begin, end), each at its place in the planes.
void gatherCodes(const Gptq& g, int64_t begin, int64_t end, const std::vector<int32_t>& placeOf,
                 uint8_t* out) {
    for (int64_t col = 0; col < g.cols; ++col) {
        const int64_t place = placeOf.empty() ? col : placeOf[static_cast<size_t>(col)];
        for (int64_t row = begin; row < end; ++row)
            out[(row - begin) * g.cols + place] =
                storedCode(*g.format, loadField(g.codes.bytes, row, g.rows, col, g.bits));
    }
}

Tensor load(const Gptq& g, const std::string& name) {
    const Format& f = *g.format;
    const uint32_t shift = zeroShift(g), mask = (1u << g.bits) - 1;
    const auto order = columnOrder(g);
    std::vector<int32_t> placeOf(order ? order->size() : 0);
    for (size_t j = 0; j < placeOf.size(); ++j)
        placeOf[static_cast<size_t>((*order)[j])] = static_cast<int32_t>(j);
    TensorBuilder builder(name, f, g.rows, g.cols);
    const int64_t chunks = (g.rows + kRowsAtOnce - 1) / kRowsAtOnce;
    parallelFor(static_cast<size_t>(chunks), 1, [&](size_t first, size_t last) {
        std::vector<uint8_t> codes(static_cast<size_t>(kRowsAtOnce * g.cols));
        for (auto chunk = static_cast<int64_t>(first); chunk < static_cast<int64_t>(last);
             ++chunk) {
            const int64_t begin = chunk * kRowsAtOnce, end = std::min(g.rows, begin + kRowsAtOnce);
            gatherCodes(g, begin, end, placeOf, codes.data());
            for (int64_t row = begin; row < end; ++row) {
                builder.setCodes(row, codes.data() + (row - begin) * g.cols);
                for (int64_t k = 0; k < f.groupCount(g.cols); ++k) {
                    const int64_t group = k * f.groupLength(g.cols) / g.group;
                    builder.setScale(row, k, packedScale(g.scales, group * g.rows + row, f));
                    if (!g.symmetric)
                        builder.setOffset(
                            row, k,
                            static_cast<uint16_t>((storedZero(g, row, group) + shift) & mask));
                }
            }
        }
    });
    for (const TensorInfo* part : {&g.codes, &g.zeros, &g.scales})
        if (part->mapped)
            releasePages(part->bytes.view());
    Tensor tensor = builder.finish();
    tensor.columnOrder = order;
    return tensor;
}

/// v1 or v2, by the name that the configuration gives the layout.
bool storesZeroMinusOne(const PackedParts& parts) {
    const std::string layout = parts.metadata().stringOr(
        parts.key("checkpoint_format"),
        parts.metadata().booleanOr(parts.key("is_marlin_format"), false) ? "marlin" : "gptq");
    if (layout != "gptq" && layout != "gptq_v2")
        parts.unread(fmt::format("packed in the layout \"{}\"", printable(layout)));
    return layout == "gptq";
}

bool isWidth(int64_t bits) {
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

int readBits(const PackedParts& parts) {
    const int64_t bits = parts.metadata().integerOr(parts.key("bits"), 0);
    if (!isWidth(bits))
        parts.badConfig("bits", "2, 3, 4 or 8");
    return static_cast<int>(bits);
}

/// Whether single layers may have other bits than the configuration's (its table "dynamic").
bool variesByLayer(const PackedParts& parts) {
    const std::string prefix = parts.key("dynamic.");
    const auto at = parts.metadata().entries.lower_bound(prefix);
    return at != parts.metadata().entries.end() && at->first.starts_with(prefix);
}

} // namespace

PackedWeight readGptq(PackedParts& parts) {
    Gptq g;
    g.source = parts.source();
    g.stem = parts.stem();
    g.minusOne = storesZeroMinusOne(parts);
    g.bits = readBits(parts);
    g.symmetric = parts.metadata().booleanOr(parts.key("sym"), false);
    g.codes = parts.get(".qweight", {"i32"});
    g.zeros = parts.get(".qzeros", {"i32"});
    g.scales = parts.get(".scales", {"f16", "bf16", "f32"});
    if (g.codes.dims.size() != 2)
        parts.damaged(g.codes.name, fmt::format("of {} dimensions", g.codes.dims.size()), "2");
    g.rows = g.codes.dims[1];
    if (variesByLayer(parts) && g.zeros.cols() * 32 % g.rows == 0)
        if (const int64_t bits = g.zeros.cols() * 32 / g.rows; isWidth(bits))
            g.bits = static_cast<int>(bits);
    g.cols = g.codes.dims[0] * 32 / g.bits;
    const int64_t stated = parts.metadata().integerOr(parts.key("group_size"), 0);
    if (stated != -1 && (stated < 16 || stated % 16 != 0))
        parts.badConfig("group_size", "-1 or a multiple of 16");
    g.group = stated == -1 ? g.cols : stated;
    g.groups = (g.cols + g.group - 1) / g.group;
    parts.require(g.scales, {g.groups, g.rows});
    parts.require(g.zeros, {g.groups, g.rows * g.bits / 32});
    parts.require(g.codes, {g.cols * g.bits / 32, g.rows});
    if (g.rows * g.bits % 32 != 0)
        parts.damaged(g.codes.name, fmt::format("of {} columns", g.rows), "whole words of rows");
    if (parts.find(".g_idx")) {
        g.order = parts.get(".g_idx", {"i32"});
        parts.require(g.order, {g.cols});
    }
    g.format = packedFormat(g.bits, stated == -1 ? 0 : stated, !g.symmetric, *g.scales.type);
    if (!g.format)
        parts.unread(fmt::format("{} bits with scales of type {}", g.bits, g.scales.type->name));
    PackedWeight weight;
    weight.format = g.format;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.codes = g.codes.bytes;
    weight.load = [shared = std::make_shared<const Gptq>(std::move(g))](const std::string& name) {
        return load(*shared, name);
    };
    return weight;
}

namespace {

std::string refuses(const Format& f, int64_t rows, int64_t cols, bool) {
    if (std::string why = refuseGroups(f, {2, 3, 4, 8}, cols); !why.empty())
        return why;
    if (rows * f.bits % 32 != 0 || cols * f.bits % 32 != 0)
        return fmt::format("{} x {} values of {} bits do not fill its 32-bit words", rows, cols,
                           int(f.bits));
    return {};
}

std::vector<PackedPart> partsOf(const Format& f, int64_t rows, int64_t cols, bool) {
    const int64_t groups = f.groupCount(cols), bits = f.bits;
    return {{".qweight", "I32", {cols * bits / 32, rows}},
            {".qzeros", "I32", {groups, rows * bits / 32}},
            {".g_idx", "I32", {cols}},
            {".scales", "F16", {groups, rows}}};
}

/// A zero point as version 1 stores it. 0 would wrap, which engines read differently; where the
/// scale is 0 any zero point gives the same values.
uint32_t zeroLessOne(const Tensor& t, int64_t row, int64_t group, uint16_t scale) {
    const uint32_t zero = plainZero(t, row, group);
    if (zero == 0 && (scale & 0x7fff) != 0)
        fail(
            ErrorKind::Usage,
            "Tensor \"{}\" has the zero point 0 in row {}, group {}, which GPTQ files of version 1 "
            "cannot say; choose a format without zero points, or export awq or "
            "compressed-tensors.",
            printable(t.name), row, group);
    return zero == 0 ? 0 : zero - 1;
}

std::vector<Bytes> pack(const Tensor& t) {
    const Format& f = *t.format;
    const int64_t groups = f.groupCount(t.cols), zeroWords = t.rows * f.bits / 32;
    std::vector<uint32_t> codes(static_cast<size_t>(t.cols * f.bits / 32 * t.rows));
    std::vector<uint32_t> zeros(static_cast<size_t>(groups * zeroWords));
    std::vector<uint16_t> scales(static_cast<size_t>(groups * t.rows));
    std::vector<int32_t> order(static_cast<size_t>(t.cols));
    for (int64_t j = 0; j < t.cols; ++j)
        order[static_cast<size_t>(t.columnOrder ? (*t.columnOrder)[static_cast<size_t>(j)] : j)] =
            static_cast<int32_t>(j / f.groupLength(t.cols));
    const int64_t chunks = (t.rows + kRowsAtOnce - 1) / kRowsAtOnce; // whole words of zero points
    parallelFor(static_cast<size_t>(chunks), 1, [&](size_t first, size_t last) {
        std::vector<uint8_t> plain(static_cast<size_t>(kRowsAtOnce * t.cols));
        for (auto chunk = static_cast<int64_t>(first); chunk < static_cast<int64_t>(last);
             ++chunk) {
            const int64_t begin = chunk * kRowsAtOnce, end = std::min(t.rows, begin + kRowsAtOnce);
            for (int64_t r = begin; r < end; ++r)
                plainCodes(t, r, plain.data() + (r - begin) * t.cols);
            for (int64_t i = 0; i < t.cols; ++i)
                for (int64_t r = begin; r < end; ++r)
                    storeField(codes.data() + r, t.rows, i, f.bits,
                               plain[static_cast<size_t>((r - begin) * t.cols + i)]);
            for (int64_t r = begin; r < end; ++r)
                for (int64_t k = 0; k < groups; ++k) {
                    const uint16_t scale = halfScale(f, rawScale(t, r, k));
                    scales[static_cast<size_t>(k * t.rows + r)] = scale;
                    storeField(zeros.data() + k * zeroWords, 1, r, f.bits,
                               zeroLessOne(t, r, k, scale));
                }
        }
    });
    return {Bytes::of(std::move(codes)), Bytes::of(std::move(zeros)), Bytes::of(std::move(order)),
            Bytes::of(std::move(scales))};
}

} // namespace

const PackingWriter kGptqWriter{"gptq", refuses, partsOf, pack};

} // namespace nibble
