#include "core/tensor/format.h"

#include "core/base/error.h"

#include <deque>
#include <set>
#include <string>

namespace nibble {
namespace {

/// The non-linear 4-bit values of llama.cpp's iq4_nl and iq4_xs.
constexpr CodeTable kIq4 = {
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};

/// FP4 E2M1 (OCP Microscaling Formats 1.0); the integers are doubled, so unit is 1/2.
constexpr CodeTable kFp4 = {{0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6},
                            {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}};

/// The quantiles of a normal distribution that QLoRA (Dettmers et al. 2023) calls NormalFloat4, as
/// bitsandbytes has them; the integers are 127 times that, rounded: off by at most 0.0037.
constexpr CodeTable kNf4 = {
    {-1, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
     -0.18477343022823334f, -0.09105003625154495f, 0, 0.07958029955625534f, 0.16093020141124725f,
     0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
     0.7229568362236023f, 1},
    {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127}};

constexpr Format floats(const char* name, CodeKind code, uint8_t bits) {
    return {.name = name, .code = code, .bits = bits};
}

/// Integers with one scale a group.
constexpr Format scaled(const char* name, uint8_t bits, int16_t zero, uint16_t group,
                        ScaleKind scale = ScaleKind::F16) {
    return {.name = name,
            .code = CodeKind::Uniform,
            .bits = bits,
            .zero = zero,
            .group = group,
            .scale = scale};
}

constexpr Format withOffset(Format format, OffsetKind offset, uint8_t bits) {
    format.offset = offset;
    format.offsetBits = bits;
    return format;
}

constexpr Format withTable(Format format, const CodeTable& table, float unit) {
    format.code = CodeKind::Table;
    format.table = &table;
    format.unit = unit;
    return format;
}

/// Integers whose group scales are themselves `scaleBits` integers × an f16 per 256 values.
constexpr Format superScaled(const char* name, uint8_t bits, int16_t zero, uint16_t group,
                             uint8_t scaleBits, int8_t scaleZero) {
    Format format = scaled(name, bits, zero, group, ScaleKind::Code);
    format.scaleBits = scaleBits;
    format.scaleZero = scaleZero;
    format.super = 256;
    return format;
}

/// Scales of 8 bits times one f16 a row.
constexpr Format rowScaled(Format format) {
    format.scale = ScaleKind::Code;
    format.scaleBits = 8;
    format.super = Format::kWholeRow;
    return format;
}

constexpr Format notOffered(Format format) {
    format.offered = false;
    return format;
}

/// Every format outside the integer family.
constexpr Format kNamedFormats[] = {
    floats("f32", CodeKind::Float32, 32),
    floats("f16", CodeKind::Float16, 16),
    floats("bf16", CodeKind::BFloat16, 16),
    withOffset(scaled("hqq4", 4, 0, 64), OffsetKind::Value, 16),
    withOffset(scaled("hqq3", 3, 0, 64), OffsetKind::Value, 16),
    withOffset(scaled("hqq2", 2, 0, 64), OffsetKind::Value, 16),
    withTable(scaled("nf4", 4, 0, 64, ScaleKind::F32), kNf4, 1 / 127.0f),
    withTable(superScaled("nf4_dq", 4, 0, 64, 8, 0), kNf4, 1 / 127.0f),
    withTable(rowScaled(scaled("nibble4", 4, 0, 32)), kIq4, 1),
    scaled("q8_0", 8, 0, 32),
    scaled("q4_0", 4, 8, 32),
    withOffset(scaled("q4_1", 4, 0, 32), OffsetKind::Value, 16),
    scaled("q5_0", 5, 16, 32),
    withOffset(scaled("q5_1", 5, 0, 32), OffsetKind::Value, 16),
    withOffset(superScaled("q2_k", 2, 0, 16, 4, 0), OffsetKind::Code, 4),
    superScaled("q3_k", 3, 4, 16, 6, 32),
    withOffset(superScaled("q4_k", 4, 0, 32, 6, 0), OffsetKind::Code, 6),
    withOffset(superScaled("q5_k", 5, 0, 32, 6, 0), OffsetKind::Code, 6),
    superScaled("q6_k", 6, 32, 16, 8, 0),
    withTable(scaled("iq4_nl", 4, 0, 32), kIq4, 1),
    withTable(superScaled("iq4_xs", 4, 0, 32, 6, 32), kIq4, 1),
    withTable(scaled("mxfp4", 4, 0, 32, ScaleKind::E8M0), kFp4, 0.5f),
    withTable(scaled("nvfp4", 4, 0, 16, ScaleKind::E4M3), kFp4, 0.5f),
    notOffered(withTable(scaled("nvfp4_f32", 4, 0, 16, ScaleKind::F32), kFp4, 0.5f)),
    notOffered(scaled("tq1_0", 2, 1, 256)),
    notOffered(scaled("tq2_0", 2, 1, 256)),
};

/// How a group's scale is kept: an f16 (f32 for whole rows), 8 bits × an f16 a row, or an f32 for
/// what other tools keep in bf16 and f32.
enum class GroupScale { Usual, Coded, Wide };

const char* suffixOf(GroupScale kind) {
    return kind == GroupScale::Coded ? "_s8" : kind == GroupScale::Wide ? "_f32" : "";
}

bool occurs(int bits, int group, GroupScale kind) {
    return kind == GroupScale::Usual ||
           (group != 0 && (kind == GroupScale::Coded || bits == 8 || bits == 4));
}

/// The integer family: bits × group × zero points × kind of scale.
void addIntegers(std::vector<Format>& out, std::deque<std::string>& names) {
    for (const int bits : {8, 6, 5, 4, 3, 2})
        for (const int group : {0, 256, 128, 64, 32, 16})
            for (const bool zeros : {false, true})
                for (const auto kind : {GroupScale::Usual, GroupScale::Coded, GroupScale::Wide}) {
                    if (!occurs(bits, group, kind))
                        continue;
                    const std::string& name =
                        names.emplace_back("int" + std::to_string(bits) +
                                           (group == 0 ? "" : "_g" + std::to_string(group)) +
                                           (zeros ? "z" : "") + suffixOf(kind));
                    const int middle = bits == 8 ? 0 : 1 << (bits - 1);
                    Format format = scaled(
                        name.c_str(), static_cast<uint8_t>(bits), static_cast<int16_t>(middle),
                        static_cast<uint16_t>(group),
                        group == 0 || kind == GroupScale::Wide ? ScaleKind::F32 : ScaleKind::F16);
                    if (zeros) {
                        // Stored codes of 8 bits are 128 less than what the zero point counts from.
                        format.zero = bits == 8 ? -128 : 0;
                        format = withOffset(format, OffsetKind::Zero, static_cast<uint8_t>(bits));
                    }
                    if (kind == GroupScale::Coded)
                        format = rowScaled(format);
                    format.offered = !zeros && kind == GroupScale::Usual &&
                                     (group == 0 ? bits == 8 : group >= 32);
                    out.push_back(format);
                }
}

std::vector<Format> allFormats() {
    static std::deque<std::string> names;
    std::vector<Format> all;
    for (const Format& format : kNamedFormats) {
        if (std::string_view(format.name) == "nf4")
            addIntegers(all, names);
        all.push_back(format);
    }
    return all;
}

/// What distinguishes formats for a kernel.
std::array<int64_t, 10> properties(const Format& f) {
    const int64_t table = f.table ? reinterpret_cast<intptr_t>(f.table) : 0;
    return {int64_t(f.code),   f.bits,       f.zero, table, f.group, int64_t(f.scale), f.scaleBits,
            int64_t(f.offset), f.offsetBits, f.super};
}

int bitsOfScale(const Format& format) {
    switch (format.scale) {
    case ScaleKind::None:
        return 0;
    case ScaleKind::F32:
        return 32;
    case ScaleKind::F16:
    case ScaleKind::BF16:
        return 16;
    case ScaleKind::E8M0:
    case ScaleKind::E4M3:
        return 8;
    case ScaleKind::Code:
        return format.scaleBits;
    }
    return 0;
}

} // namespace

double Format::bitsPerWeight(int64_t cols) const {
    if (cols <= 0)
        return bits;
    const int64_t ofGroup = bitsOfScale(*this) + offsetBits;
    const int64_t ofSuper =
        (scale == ScaleKind::Code ? 16 : 0) + (offset == OffsetKind::Code ? 16 : 0);
    const int64_t extra = isFloat() ? 0 : groupCount(cols) * ofGroup + superCount(cols) * ofSuper;
    return bits + static_cast<double>(extra) / static_cast<double>(cols);
}

std::span<const Format> formats() {
    static const std::vector<Format> all = allFormats();
    return all;
}

std::vector<const Format*> coveringFormats() {
    std::set<std::array<int64_t, 4>> seen; // two properties and their values
    std::vector<const Format*> chosen;
    const auto take = [&](const Format& format) {
        const auto values = properties(format);
        bool isNew = false;
        for (size_t i = 0; i < values.size(); ++i)
            for (size_t j = i + 1; j < values.size(); ++j)
                isNew |= seen.insert({int64_t(i), int64_t(j), values[i], values[j]}).second;
        return isNew;
    };
    for (const Format& format : kNamedFormats) {
        take(format);
        chosen.push_back(findFormat(format.name));
    }
    for (const Format& format : formats())
        if (std::find(chosen.begin(), chosen.end(), &format) == chosen.end() &&
            (take(format) || format.offered))
            chosen.push_back(&format);
    return chosen;
}

const Format* findFormat(std::string_view name) {
    for (const Format& format : formats())
        if (name == format.name)
            return &format;
    return nullptr;
}

const Format& getFormat(std::string_view name) {
    if (const Format* format = findFormat(name))
        return *format;
    std::string known;
    for (const Format& format : formats())
        if (format.offered)
            known += std::string(known.empty() ? "" : ", ") + format.name;
    fail(ErrorKind::Usage,
         "There is no format \"{}\". Known formats: {}; integers also "
         "with z for zero points and _s8 or _f32 for scales of that width.",
         printable(name), known);
}

} // namespace nibble
