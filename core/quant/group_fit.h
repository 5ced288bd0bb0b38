#pragma once

#include "core/tensor/format.h"

#include <cstdint>
#include <span>

namespace nibble {

/// Scale and offset of one group as stored, and what they cost.
struct GroupFit {
    uint32_t scale = 0;  ///< raw bits
    uint16_t offset = 0; ///< raw bits: f16, or the zero point
    double error = 0;    ///< Σ weight · (x − decoded)²
};

/// Why groups of this format cannot be fitted one by one, or null. Fitted are integer codes with a
/// stored scale and no offset, a zero point, or an f16 offset.
const char* cannotFitGroups(const Format& format);

/// Codes and stored scale of one group of finite values by the textbook: the largest magnitude (or
/// the range, with 0 in it for zero points) spread over the codes. `codes` as TensorBuilder takes
/// them, one for each value.
GroupFit fitPlain(const Format& format, std::span<const float> x, std::span<const float> weights,
                  uint8_t* codes);

/// The same by search: many scales around the plain one, of both signs where the codes are not
/// symmetric, each refined by least squares with its codes fixed; the least weighted error after
/// rounding to what is stored wins, and never exceeds fitPlain's.
GroupFit fitSearched(const Format& format, std::span<const float> x, std::span<const float> weights,
                     uint8_t* codes);

} // namespace nibble
