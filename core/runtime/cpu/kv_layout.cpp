#include "core/runtime/cpu/kv_layout.h"

#include "core/base/error.h"
#include "core/base/half.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nibble {
namespace {

constexpr int32_t kBlock = 32; ///< values that share a scale in the integer formats

size_t plainBytes(KvFormat format, int32_t dimensions) {
    const auto values = static_cast<size_t>(dimensions) * kPageTokens;
    switch (format) {
    case KvFormat::F32:
        return values * 4;
    case KvFormat::F16:
        return values * 2;
    case KvFormat::Int8:
        return values + values / kBlock * 2;
    case KvFormat::Int4:
        return values / 2 + values / kBlock * 2;
    }
    return 0;
}

/// One value among the `values` of a page's keys or values; integer codes first, scales after.
template <typename T>
void put(std::byte* plane, size_t index, T value) {
    std::memcpy(plane + index * sizeof(T), &value, sizeof(T));
}
template <typename T>
T at(const std::byte* plane, size_t index) {
    T value;
    std::memcpy(&value, plane + index * sizeof(T), sizeof(T));
    return value;
}

/// Where dimension d of token t stands: keys lie [d][token], values [token][padded].
struct Order {
    size_t dimension, token;
    size_t index(int32_t d, int32_t t) const {
        return static_cast<size_t>(d) * dimension + static_cast<size_t>(t) * token;
    }
    size_t scale(int32_t d, int32_t t) const {
        return static_cast<size_t>(d / kBlock) * kPageTokens + static_cast<size_t>(t);
    }
};

void storeNibble(std::byte* codes, size_t index, int code) {
    const auto shift = static_cast<unsigned>(index % 2 * 4);
    const unsigned old = std::to_integer<unsigned>(codes[index / 2]) & ~(15u << shift);
    codes[index / 2] = static_cast<std::byte>(old | static_cast<unsigned>(code + 8) << shift);
}

void storeToken(KvFormat format, Order order, size_t values, std::byte* plane, int32_t token,
                const float* x, int32_t headSize) {
    if (format == KvFormat::F32 || format == KvFormat::F16) {
        for (int32_t d = 0; d < headSize; ++d)
            if (format == KvFormat::F32)
                put(plane, order.index(d, token), x[d]);
            else
                put(plane, order.index(d, token), floatToHalf(x[d]));
        return;
    }
    const int top = format == KvFormat::Int8 ? 127 : 7;
    std::byte* scales = plane + (format == KvFormat::Int8 ? values : values / 2);
    for (int32_t from = 0; from < headSize; from += kBlock) {
        float largest = 0;
        for (int32_t d = from; d < from + kBlock; ++d)
            largest = std::isfinite(x[d]) ? std::max(largest, std::fabs(x[d])) : NAN;
        const float scale = largest / static_cast<float>(top);
        put(scales, order.scale(from, token), floatToHalf(scale));
        const float inverse = scale > 0 ? 1 / scale : 0;
        for (int32_t d = from; d < from + kBlock; ++d) {
            const float code = std::round(x[d] * inverse);
            const int limited = code >= -static_cast<float>(top) && code <= static_cast<float>(top)
                                    ? static_cast<int>(code)
                                    : 0;
            if (format == KvFormat::Int8)
                put(plane, order.index(d, token), static_cast<int8_t>(limited));
            else
                storeNibble(plane, order.index(d, token), limited);
        }
    }
}

void readPage(KvFormat format, Order order, size_t values, const std::byte* plane, int32_t headSize,
              float* out) {
    const std::byte* scales = plane + (format == KvFormat::Int8 ? values : values / 2);
    for (int32_t d = 0; d < headSize; ++d)
        for (int32_t t = 0; t < kPageTokens; ++t) {
            const size_t i = order.index(d, t);
            switch (format) {
            case KvFormat::F32:
                out[i] = at<float>(plane, i);
                break;
            case KvFormat::F16:
                out[i] = halfToFloat(at<uint16_t>(plane, i));
                break;
            case KvFormat::Int8:
                out[i] = static_cast<float>(at<int8_t>(plane, i)) *
                         halfToFloat(at<uint16_t>(scales, order.scale(d, t)));
                break;
            case KvFormat::Int4: {
                const int code = static_cast<int>(at<uint8_t>(plane, i / 2) >> (i % 2 * 4) & 15);
                out[i] = static_cast<float>(code - 8) *
                         halfToFloat(at<uint16_t>(scales, order.scale(d, t)));
                break;
            }
            }
        }
}

} // namespace

KvLayout::KvLayout(const ModelConfig& config, KvFormat k, KvFormat v)
    : kFormat(k), vFormat(v), headSize(config.headSize), kvHeads(config.kvHeads),
      queriesPerHead(config.heads / config.kvHeads) {
    for (const KvFormat format : {k, v})
        if ((format == KvFormat::Int8 || format == KvFormat::Int4) && headSize % kBlock != 0)
            fail(ErrorKind::Usage,
                 "Heads of {} values cannot be kept as {}, which needs a multiple of {}; choose "
                 "f16.",
                 headSize, name(format), kBlock);
}

size_t KvLayout::keyBytes() const {
    return plainBytes(kFormat, headSize);
}
size_t KvLayout::valueBytes() const {
    return plainBytes(vFormat, paddedHead());
}

void KvLayout::store(std::byte* layer, int32_t page, int32_t head, int32_t token, const float* key,
                     const float* value) const {
    const auto padded = static_cast<size_t>(paddedHead());
    storeToken(kFormat, {kPageTokens, 1}, size_t(headSize) * kPageTokens,
               layer + keysAt(page, head), token, key, headSize);
    storeToken(vFormat, {1, padded}, padded * kPageTokens, layer + valuesAt(page, head), token,
               value, headSize);
}

void KvLayout::readKeys(const std::byte* keys, float* out) const {
    readPage(kFormat, {kPageTokens, 1}, size_t(headSize) * kPageTokens, keys, headSize, out);
}

void KvLayout::readValues(const std::byte* values, float* out) const {
    const auto padded = static_cast<size_t>(paddedHead());
    readPage(vFormat, {1, padded}, padded * kPageTokens, values, headSize, out);
}

} // namespace nibble
