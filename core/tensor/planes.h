#pragma once

#include "core/tensor/tensor.h"

#include <cstdint>

/// Access to the raw contents of canonical planes, group by group: what codecs, references and
/// uploads are written with.
namespace nibble {

/// Bytes of one stored scale (4, 2, 1, or 0 without scales) and of one stored offset (2, 1, 0).
int scaleBytes(const Format& format);
int offsetBytes(const Format& format);

/// uint32 words of the low and of the high code plane; the high plane follows the low one.
int64_t lowPlaneWords(const Tensor& tensor);
int64_t highPlaneWords(const Tensor& tensor);

/// Raw stored bits, as given to the TensorBuilder.
uint32_t rawScale(const Tensor& tensor, int64_t row, int64_t group);
uint16_t rawOffset(const Tensor& tensor, int64_t row, int64_t group);
uint16_t rawSuperScale(const Tensor& tensor, int64_t row, int64_t super);
uint16_t rawSuperOffset(const Tensor& tensor, int64_t row, int64_t super);

/// Float8 scales. E8M0: 2^(e − 127), a double because e = 255 exceeds float32. Unsigned E4M3: bias
/// 7, subnormals, the sign bit ignored, and 0x7f (NaN in OCP FP8) is 0, as llama.cpp reads NVFP4.
double e8m0ToDouble(uint8_t bits);
float e4m3ToFloat(uint8_t bits);

/// One group's numbers in w = unit · s · (c − z) + o, `unit` not yet applied.
struct GroupValues {
    double scale =
        1; ///< exact: (scaleCode − scaleZero) · superScale has at most 19 significant bits
    int zero = 0; ///< Format::zero plus the group's zero point
    float offset = 0;
};
GroupValues groupValues(const Tensor& tensor, int64_t row, int64_t group);

/// Raw stored bits of one group; those that the format lacks do not matter.
struct GroupBits {
    uint32_t scale = 0;
    uint16_t offset = 0, superScale = 0, superOffset = 0;
};
GroupValues groupValues(const Format& format, const GroupBits& bits);
/// What one raw code of such a group stands for.
float decodeCode(const Format& format, const GroupValues& group, uint8_t code);

/// Whether codes of 0 stand for the value 0 in every group, as outlier columns want it.
bool zeroCodeIsZero(const Format& format);

/// 32 codes, one a byte, to and from a record of `bits` (8, 4, 2, 1) words: value v lies in byte
/// v mod 4·bits at bit bits·⌊v / 4·bits⌋. Unpacking adds in at bit `shift` of each code.
void packRecord(int bits, const uint8_t* codes, int shift, uint8_t* record);
void unpackRecord(int bits, const uint8_t* record, int shift, uint8_t* codes);

} // namespace nibble
