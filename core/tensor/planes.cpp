#include "core/tensor/planes.h"

#include "core/base/half.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace nibble {
namespace {

template <typename T>
T stored(const Bytes& plane, int64_t index) {
    T value;
    std::memcpy(&value, plane.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
    return value;
}

template <int bits>
void pack(const uint8_t* __restrict codes, int shift, uint8_t* __restrict record) {
    constexpr int bytes = 4 * bits;
    for (int j = 0; j < bytes; ++j) {
        unsigned byte = 0;
        for (int i = 0; i < 8 / bits; ++i)
            byte |= (static_cast<unsigned>(codes[j + i * bytes]) >> shift & ((1u << bits) - 1))
                    << (i * bits);
        record[j] = static_cast<uint8_t>(byte);
    }
}

template <int bits>
void unpack(const uint8_t* __restrict record, int shift, uint8_t* __restrict codes) {
    constexpr int bytes = 4 * bits;
    for (int i = 0; i < 8 / bits; ++i)
        for (int j = 0; j < bytes; ++j)
            codes[j + i * bytes] = static_cast<uint8_t>(
                codes[j + i * bytes] |
                (static_cast<unsigned>(record[j]) >> (i * bits) & ((1u << bits) - 1)) << shift);
}

} // namespace

int scaleBytes(const Format& format) {
    switch (format.scale) {
    case ScaleKind::None:
        return 0;
    case ScaleKind::F32:
        return 4;
    case ScaleKind::F16:
    case ScaleKind::BF16:
        return 2;
    default:
        return 1;
    }
}

int offsetBytes(const Format& format) {
    return format.offset == OffsetKind::None ? 0 : format.offset == OffsetKind::Value ? 2 : 1;
}

int64_t lowPlaneWords(const Tensor& t) {
    return t.rows * t.blocks() * t.format->lowBits();
}
int64_t highPlaneWords(const Tensor& t) {
    return t.rows * t.blocks() * t.format->highBits();
}

uint32_t rawScale(const Tensor& t, int64_t row, int64_t group) {
    const int64_t at = row * t.format->groupCount(t.cols) + group;
    switch (scaleBytes(*t.format)) {
    case 4:
        return stored<uint32_t>(t.scales, at);
    case 2:
        return stored<uint16_t>(t.scales, at);
    case 1:
        return stored<uint8_t>(t.scales, at);
    default:
        return 0;
    }
}

uint16_t rawOffset(const Tensor& t, int64_t row, int64_t group) {
    const int64_t at = row * t.format->groupCount(t.cols) + group;
    switch (offsetBytes(*t.format)) {
    case 2:
        return stored<uint16_t>(t.offsets, at);
    case 1:
        return stored<uint8_t>(t.offsets, at);
    default:
        return 0;
    }
}

uint16_t rawSuperScale(const Tensor& t, int64_t row, int64_t super) {
    return stored<uint16_t>(t.superScales, row * t.format->superCount(t.cols) + super);
}

uint16_t rawSuperOffset(const Tensor& t, int64_t row, int64_t super) {
    return stored<uint16_t>(t.superOffsets, row * t.format->superCount(t.cols) + super);
}

double e8m0ToDouble(uint8_t bits) {
    return std::ldexp(1.0, int(bits) - 127);
}

float e4m3ToFloat(uint8_t bits) {
    const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
    if (bits == 0x7f)
        return 0;
    return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                         : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

GroupValues groupValues(const Format& f, const GroupBits& bits) {
    GroupValues values;
    values.zero = f.zero;
    switch (f.scale) {
    case ScaleKind::None:
        break;
    case ScaleKind::F32:
        values.scale = std::bit_cast<float>(bits.scale);
        break;
    case ScaleKind::F16:
        values.scale = halfToFloat(static_cast<uint16_t>(bits.scale));
        break;
    case ScaleKind::BF16:
        values.scale = bfloatToFloat(static_cast<uint16_t>(bits.scale));
        break;
    case ScaleKind::E8M0:
        values.scale = e8m0ToDouble(static_cast<uint8_t>(bits.scale));
        break;
    case ScaleKind::E4M3:
        values.scale = e4m3ToFloat(static_cast<uint8_t>(bits.scale));
        break;
    case ScaleKind::Code: {
        const int code =
            f.scaleBits == 8 ? static_cast<int8_t>(bits.scale) : static_cast<int>(bits.scale);
        values.scale = double(code - f.scaleZero) * halfToFloat(bits.superScale);
        break;
    }
    }
    switch (f.offset) {
    case OffsetKind::None:
        break;
    case OffsetKind::Value:
        values.offset = halfToFloat(bits.offset);
        break;
    case OffsetKind::Zero:
        values.zero += bits.offset;
        break;
    case OffsetKind::Code:
        values.offset = static_cast<float>(bits.offset) * halfToFloat(bits.superOffset);
        break;
    }
    return values;
}

GroupValues groupValues(const Tensor& t, int64_t row, int64_t group) {
    const Format& f = *t.format;
    const int64_t super = f.super == 0 ? 0 : group * f.groupLength(t.cols) / f.super;
    GroupBits bits{.scale = rawScale(t, row, group), .offset = rawOffset(t, row, group)};
    if (f.scale == ScaleKind::Code)
        bits.superScale = rawSuperScale(t, row, super);
    if (f.offset == OffsetKind::Code)
        bits.superOffset = rawSuperOffset(t, row, super);
    return groupValues(f, bits);
}

bool zeroCodeIsZero(const Format& format) {
    return format.code == CodeKind::Uniform && format.zero == 0 &&
           format.offset == OffsetKind::None;
}

void packRecord(int bits, const uint8_t* codes, int shift, uint8_t* record) {
    switch (bits) {
    case 8:
        std::memcpy(record, codes, 32);
        break;
    case 4:
        pack<4>(codes, shift, record);
        break;
    case 2:
        pack<2>(codes, shift, record);
        break;
    case 1:
        pack<1>(codes, shift, record);
        break;
    default:
        break;
    }
}

void unpackRecord(int bits, const uint8_t* record, int shift, uint8_t* codes) {
    switch (bits) {
    case 8:
        std::memcpy(codes, record, 32);
        break;
    case 4:
        unpack<4>(record, shift, codes);
        break;
    case 2:
        unpack<2>(record, shift, codes);
        break;
    case 1:
        unpack<1>(record, shift, codes);
        break;
    default:
        break;
    }
}

} // namespace nibble
