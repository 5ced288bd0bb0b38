#include "core/runtime/random_tensor.h"

#include "core/base/half.h"

#include <bit>
#include <cmath>

namespace nibble {

Tensor randomTensor(const Format& format, int64_t rows, int64_t cols, Random& random) {
    if (format.isFloat()) {
        std::vector<float> values(static_cast<size_t>(rows * cols));
        for (float& value : values)
            value = static_cast<float>(random.normal() / std::sqrt(double(cols)));
        return makeFloatTensor("random", format, rows, cols, values);
    }
    TensorBuilder builder("random", format, rows, cols);
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    const auto scale = [&] { return static_cast<float>(0.005 + 0.01 * random.uniform()); };
    const auto bits = [&](int count) {
        return static_cast<uint32_t>(random.next() & ((1u << count) - 1));
    };
    for (int64_t row = 0; row < rows; ++row) {
        for (uint8_t& code : codes)
            code = static_cast<uint8_t>(bits(format.bits));
        builder.setCodes(row, codes.data());
        for (int64_t g = 0; g < format.groupCount(cols); ++g) {
            uint32_t raw = floatToHalf(scale());
            if (format.scale == ScaleKind::F32)
                raw = std::bit_cast<uint32_t>(scale());
            else if (format.scale == ScaleKind::BF16)
                raw = floatToBfloat(scale());
            else if (format.scale == ScaleKind::E8M0)
                raw = 118 + bits(3);
            else if (format.scale == ScaleKind::E4M3)
                raw = bits(6);
            else if (format.scale == ScaleKind::Code)
                raw = bits(format.scaleBits);
            builder.setScale(row, g, raw);
            if (format.offset == OffsetKind::Value)
                builder.setOffset(row, g, floatToHalf(scale()));
            else if (format.offset != OffsetKind::None)
                builder.setOffset(row, g, static_cast<uint16_t>(bits(format.offsetBits)));
        }
        for (int64_t s = 0; s < format.superCount(cols); ++s) {
            if (format.scale == ScaleKind::Code)
                builder.setSuperScale(row, s, floatToHalf(scale()));
            if (format.offset == OffsetKind::Code)
                builder.setSuperOffset(row, s, floatToHalf(scale()));
        }
    }
    return builder.finish();
}

} // namespace nibble
