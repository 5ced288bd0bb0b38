#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

/// AWQ as AutoAWQ's "gemm" version writes it, for a weight of `out` rows and `in` columns:
///   qweight i32 [in, out/8]       eight rows of one column a word
///   qzeros  i32 [groups, out/8]   likewise
///   scales  f16 [groups, out]
/// w = scale · (code − zero point).
namespace nibble {
namespace {

/// The row (of a word's eight) whose code lies at bits 4i.
constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
/// Words of each line that are gathered at a time.
constexpr int64_t kWordsAtOnce = 8;

struct Awq {
    const Format* format;
    int64_t rows, cols, group, groups;
    TensorInfo codes, zeros, scales;
};

Tensor load(const Awq& a, const std::string& name) {
    const Format& f = *a.format;
    const int64_t words = a.rows / 8;
    TensorBuilder builder(name, f, a.rows, a.cols);
    const int64_t chunks = (words + kWordsAtOnce - 1) / kWordsAtOnce;
    parallelFor(static_cast<size_t>(chunks), 1, [&](size_t first, size_t last) {
        std::vector<uint8_t> codes(static_cast<size_t>(kWordsAtOnce * 8 * a.cols));
        for (auto chunk = static_cast<int64_t>(first); chunk < static_cast<int64_t>(last);
             ++chunk) {
            const int64_t begin = chunk * kWordsAtOnce, end = std::min(words, begin + kWordsAtOnce);
            for (int64_t col = 0; col < a.cols; ++col)
                for (int64_t word = begin; word < end; ++word) {
                    const auto packed = loadAt<uint32_t>(a.codes.bytes, col * words + word);
                    for (int i = 0; i < 8; ++i)
                        codes[static_cast<size_t>(((word - begin) * 8 + kOrder[i]) * a.cols +
                                                  col)] = packed >> (4 * i) & 15;
                }
            for (int64_t row = begin * 8; row < end * 8; ++row)
                builder.setCodes(row, codes.data() + (row - begin * 8) * a.cols);
        }
    });
    for (int64_t k = 0; k < f.groupCount(a.cols); ++k) {
        const int64_t group = k * f.groupLength(a.cols) / a.group;
        for (int64_t word = 0; word < words; ++word) {
            const auto packed = loadAt<uint32_t>(a.zeros.bytes, group * words + word);
            for (int i = 0; i < 8; ++i) {
                const int64_t row = word * 8 + kOrder[i];
                builder.setOffset(row, k, packed >> (4 * i) & 15);
                builder.setScale(row, k, packedScale(a.scales, group * a.rows + row, f));
            }
        }
    }
    for (const TensorInfo* part : {&a.codes, &a.zeros, &a.scales})
        if (part->mapped)
            releasePages(part->bytes.view());
    return builder.finish();
}

int64_t readGroup(const PackedParts& parts) {
    const Metadata& m = parts.metadata();
    const int64_t bits = m.integerOr(parts.key("bits"), m.integerOr(parts.key("w_bit"), 0));
    if (bits != 4)
        parts.badConfig("bits", "4");
    const int64_t group =
        m.integerOr(parts.key("group_size"), m.integerOr(parts.key("q_group_size"), 0));
    if (group != -1 && (group < 16 || group % 16 != 0))
        parts.badConfig("group_size", "-1 or a multiple of 16");
    return group;
}

} // namespace

PackedWeight readAwq(PackedParts& parts) {
    std::string version = parts.metadata().stringOr(parts.key("version"), "gemm");
    std::ranges::transform(version, version.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (version != "gemm")
        parts.unread(
            fmt::format("packed for AWQ's \"{}\" kernels (\"gemm\" is read)", printable(version)));
    const int64_t stated = readGroup(parts);
    Awq a;
    a.codes = parts.get(".qweight", {"i32"});
    a.zeros = parts.get(".qzeros", {"i32"});
    a.scales = parts.get(".scales", {"f16", "bf16", "f32"});
    if (a.codes.dims.size() != 2)
        parts.damaged(a.codes.name, fmt::format("of {} dimensions", a.codes.dims.size()), "2");
    a.cols = a.codes.dims[0];
    a.rows = a.codes.dims[1] * 8;
    a.group = stated == -1 ? a.cols : stated;
    a.groups = (a.cols + a.group - 1) / a.group;
    parts.require(a.zeros, {a.groups, a.rows / 8});
    parts.require(a.scales, {a.groups, a.rows});
    a.format = packedFormat(4, stated == -1 ? 0 : stated, true, *a.scales.type);
    PackedWeight weight;
    weight.format = a.format;
    weight.rows = a.rows;
    weight.cols = a.cols;
    weight.codes = a.codes.bytes;
    weight.load = [shared = std::make_shared<const Awq>(std::move(a))](const std::string& name) {
        return load(*shared, name);
    };
    return weight;
}

namespace {

std::string refuses(const Format& f, int64_t rows, int64_t cols, bool ordered) {
    if (std::string why = refuseGroups(f, {4}, cols); !why.empty())
        return why;
    if (ordered)
        return "it has no place for an order of columns (act-order)";
    if (f.group == 0)
        return "its engines run groups of 32, 64 or 128 values";
    return rows % 8 != 0 ? fmt::format("{} rows do not fill its words of eight", rows) : "";
}

std::vector<PackedPart> partsOf(const Format& f, int64_t rows, int64_t cols, bool) {
    const int64_t groups = f.groupCount(cols);
    return {{".qweight", "I32", {cols, rows / 8}},
            {".qzeros", "I32", {groups, rows / 8}},
            {".scales", "F16", {groups, rows}}};
}

std::vector<Bytes> pack(const Tensor& t) {
    const Format& f = *t.format;
    const int64_t groups = f.groupCount(t.cols), words = t.rows / 8;
    std::vector<uint32_t> codes(static_cast<size_t>(t.cols * words));
    std::vector<uint32_t> zeros(static_cast<size_t>(groups * words));
    std::vector<uint16_t> scales(static_cast<size_t>(groups * t.rows));
    parallelFor(static_cast<size_t>(words), kWordsAtOnce, [&](size_t begin, size_t end) {
        std::vector<uint8_t> row(static_cast<size_t>(t.cols));
        for (auto word = static_cast<int64_t>(begin); word < static_cast<int64_t>(end); ++word)
            for (int i = 0; i < 8; ++i) {
                const int64_t r = word * 8 + kOrder[i];
                plainCodes(t, r, row.data());
                for (int64_t col = 0; col < t.cols; ++col)
                    codes[static_cast<size_t>(col * words + word)] |=
                        uint32_t(row[static_cast<size_t>(col)]) << (4 * i);
                for (int64_t k = 0; k < groups; ++k) {
                    zeros[static_cast<size_t>(k * words + word)] |= plainZero(t, r, k) << (4 * i);
                    scales[static_cast<size_t>(k * t.rows + r)] = halfScale(f, rawScale(t, r, k));
                }
            }
    });
    return {Bytes::of(std::move(codes)), Bytes::of(std::move(zeros)), Bytes::of(std::move(scales))};
}

} // namespace

const PackingWriter kAwqWriter{"awq", refuses, partsOf, pack};

} // namespace nibble
