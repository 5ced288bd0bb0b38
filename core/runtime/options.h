#pragma once

#include "core/model/config.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace nibble {

/// How a matrix product sees its activations: as floats, or as int8 with one f16-rounded scale per
/// block of 32/64/128 values or one f32 scale per token. s = absmax / 127, code = round half away
/// from zero (x / s), as other engines compute it. Weights of a float format always see floats.
/// Int8Outliers is LLM.int8()'s decomposition (Dettmers et al. 2022): as Int8Token, but values
/// whose magnitude reaches a threshold are multiplied as floats and do not count for the scale;
/// value by value, so that a token's result does not depend on the other tokens of a call.
/// Int8Static has the one scale that the calibration found for the tensor's input; what it does not
/// reach is clamped. Outlier columns of a tensor are multiplied as floats in every format.
enum class ActivationFormat : uint8_t {
    Float,
    Int8Block32,
    Int8Block64,
    Int8Block128,
    Int8Token,
    Int8Outliers,
    Int8Static
};
inline constexpr int kActivationFormats = 7;
/// The paper's threshold: an outlier is of this magnitude or more.
inline constexpr float kOutlierThreshold = 6;
std::string_view name(ActivationFormat format); ///< "float", "int8", "int8_64", "int8_128",
                                                ///< "int8_token", "int8_outliers", "int8_static"
ActivationFormat activationFormat(std::string_view name);
/// Values per scale; 0 for Float and for a whole row.
int activationBlock(ActivationFormat format);

/// The activations of one product, with what is adjustable about their format.
struct Activations {
    ActivationFormat format = ActivationFormat::Float;
    float outlierThreshold = kOutlierThreshold; ///< of Int8Outliers
    constexpr Activations(ActivationFormat as = ActivationFormat::Float,
                          float threshold = kOutlierThreshold)
        : format(as), outlierThreshold(threshold) {}
};

/// How keys and values of past tokens are kept. Int8 and Int4: one f16 scale per 32 values.
enum class KvFormat : uint8_t { F32, F16, Int8, Int4 };
std::string_view name(KvFormat format);
KvFormat kvFormat(std::string_view name);
double bitsPerValue(KvFormat format);

/// Layers [begin, end).
struct LayerRange {
    int32_t begin = 0, end = 0;
    friend bool operator==(const LayerRange&, const LayerRange&) = default;
};

/// Bytes by purpose; what the ledger shows and what `devices` measures.
struct MemoryUse {
    uint64_t weights = 0, kv = 0, scratch = 0;
    uint64_t total() const { return weights + kv + scratch; }
};

} // namespace nibble
