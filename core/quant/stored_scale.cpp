#include "core/quant/stored_scale.h"

#include "core/base/half.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

constexpr double kHalfMax = 65504;
constexpr double kSingleMax = 3.3e38; // below the largest bfloat16 as well

std::array<double, 256> valuesOfBytes(ScaleKind kind) {
    std::array<double, 256> values;
    for (size_t bits = 0; bits < 256; ++bits)
        values[bits] = kind == ScaleKind::E8M0 ? e8m0ToDouble(static_cast<uint8_t>(bits))
                                               : double(e4m3ToFloat(static_cast<uint8_t>(bits)));
    return values;
}

StoredNumber nearestByte(ScaleKind kind, double value) {
    int low = 0, high = largestScaleByte(kind);
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (valueOfScaleByte(kind, static_cast<uint8_t>(middle)) <= value ? low : high) = middle;
    }
    const double below = valueOfScaleByte(kind, static_cast<uint8_t>(low)),
                 above = valueOfScaleByte(kind, static_cast<uint8_t>(high));
    return value - below < above - value ? StoredNumber{static_cast<uint32_t>(low), below}
                                         : StoredNumber{static_cast<uint32_t>(high), above};
}

} // namespace

StoredNumber nearestHalf(double value) {
    const uint16_t bits = floatToHalf(static_cast<float>(std::clamp(value, -kHalfMax, kHalfMax)));
    return {bits, halfToFloat(bits)};
}

StoredNumber nearestScale(ScaleKind kind, double value) {
    const auto single = static_cast<float>(std::clamp(value, -kSingleMax, kSingleMax));
    switch (kind) {
    case ScaleKind::F32:
        return {std::bit_cast<uint32_t>(single), single};
    case ScaleKind::F16:
        return nearestHalf(value);
    case ScaleKind::BF16: {
        const uint16_t bits = floatToBfloat(single);
        return {bits, bfloatToFloat(bits)};
    }
    case ScaleKind::E8M0:
    case ScaleKind::E4M3:
        return nearestByte(kind, value);
    case ScaleKind::None:
    case ScaleKind::Code:
        break;
    }
    return {};
}

double valueOfScaleByte(ScaleKind kind, uint8_t bits) {
    static const std::array<double, 256> e8m0 = valuesOfBytes(ScaleKind::E8M0),
                                         e4m3 = valuesOfBytes(ScaleKind::E4M3);
    return (kind == ScaleKind::E8M0 ? e8m0 : e4m3)[bits];
}

int largestScaleByte(ScaleKind kind) {
    return kind == ScaleKind::E8M0 ? 252 : 126;
}

} // namespace nibble
