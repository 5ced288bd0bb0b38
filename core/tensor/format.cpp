#include "core/tensor/format.h"

#include "core/base/error.h"

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

constexpr Format kFormats[] = {
    floats("f32", CodeKind::Float32, 32),
    floats("f16", CodeKind::Float16, 16),
    floats("bf16", CodeKind::BFloat16, 16),
    scaled("int8", 8, 0, 0, ScaleKind::F32),
    scaled("int8_g128", 8, 0, 128),
    scaled("int8_g32", 8, 0, 32),
    scaled("int4_g32", 4, 8, 32),
    scaled("int4_g64", 4, 8, 64),
    scaled("int4_g128", 4, 8, 128),
    withOffset(scaled("int4_g32z", 4, 0, 32), OffsetKind::Zero, 4),
    withOffset(scaled("int4_g64z", 4, 0, 64), OffsetKind::Zero, 4),
    withOffset(scaled("int4_g128z", 4, 0, 128), OffsetKind::Zero, 4),
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
    withTable(scaled("nvfp4_f32", 4, 0, 16, ScaleKind::F32), kFp4, 0.5f),
    scaled("tq1_0", 2, 1, 256),
    scaled("tq2_0", 2, 1, 256),
};

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
    return kFormats;
}

const Format* findFormat(std::string_view name) {
    for (const Format& format : kFormats)
        if (name == format.name)
            return &format;
    return nullptr;
}

const Format& getFormat(std::string_view name) {
    if (const Format* format = findFormat(name))
        return *format;
    std::string known;
    for (const Format& format : kFormats)
        known += std::string(known.empty() ? "" : ", ") + format.name;
    fail(ErrorKind::Usage, "There is no format \"{}\". Known formats: {}.", printable(name), known);
}

} // namespace nibble
