#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nibble {

/// What a stored code means.
enum class CodeKind : uint8_t { Float32, Float16, BFloat16, Uniform, Table };
/// How a scale is stored. Code: an n-bit integer times an f16 super-scale.
enum class ScaleKind : uint8_t { None, F32, F16, BF16, E8M0, E4M3, Code };
/// How an offset is stored. Value: f16 added to the scaled code. Code: n bits × f16 super-offset.
/// Zero: an integer zero point subtracted from the code.
enum class OffsetKind : uint8_t { None, Value, Code, Zero };

/// Sixteen representable values of a table format. `exact` is the format's definition; `integer`
/// × Format::unit is what integer kernels use (equal to `exact` except where stated).
struct CodeTable {
    std::array<float, 16> exact;
    std::array<int8_t, 16> integer;
};

/// How values lie in memory: values, not code. Codecs and kernels are written once against this.
///
///     w = unit · s · (c − z) + o
///
/// with c the code (or its table entry), z = zero + zero point, s = scale or
/// (scaleCode − scaleZero) · superScale, and o = offset or offsetCode · superOffset.
/// Codes of 8 bits are two's complement, narrower ones unsigned.
struct Format {
    const char* name;
    CodeKind code;
    uint8_t bits; ///< 2 3 4 5 6 8, or 16 and 32 for floats
    int16_t zero = 0;
    const CodeTable* table = nullptr;
    float unit = 1;
    uint16_t group = 0; ///< values that share a scale; 0 = the whole row
    ScaleKind scale = ScaleKind::None;
    uint8_t scaleBits = 0; ///< of a Code scale: 4, 6, or 8 (two's complement)
    int8_t scaleZero = 0;
    OffsetKind offset = OffsetKind::None;
    uint8_t offsetBits = 0;
    uint32_t super = 0;  ///< values that share a super-scale and super-offset; 0 = none
    bool offered = true; ///< in menus; others are for files and recipes that name them

    bool isFloat() const {
        return code == CodeKind::Float32 || code == CodeKind::Float16 || code == CodeKind::BFloat16;
    }
    int64_t groupLength(int64_t cols) const { return group == 0 ? cols : group; }
    int64_t groupCount(int64_t cols) const {
        return (cols + groupLength(cols) - 1) / groupLength(cols);
    }
    /// Format::super of formats with one super-scale for a whole row, however long.
    static constexpr uint32_t kWholeRow = 1u << 30;
    int64_t superCount(int64_t cols) const { return super == 0 ? 0 : (cols + super - 1) / super; }
    /// A row's length is a multiple of this, unless its last group may be short.
    int64_t rowUnit() const {
        return super == 0 || super == kWholeRow ? std::max<int64_t>(1, group) : super;
    }
    /// Low and high bit planes of a code: 3 = 2+1, 5 = 4+1, 6 = 4+2, else one plane.
    int lowBits() const { return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits; }
    int highBits() const { return isFloat() ? 0 : bits - lowBits(); }
    /// Exact bits per value of a row of `cols` values, scales and offsets included.
    double bitsPerWeight(int64_t cols) const;
};

/// Every format, one row each (format.cpp). Integers come as a family: int{2,3,4,5,6,8}, then
/// "_g16" … "_g256" for the values that share a scale (without it the whole row), "z" for zero
/// points, "_s8" for 8-bit scales times one f16 a row, "_f32" for f32 instead of f16 scales (4 and
/// 8 bits only).
std::span<const Format> formats();
/// Some of them, in which every pair of properties (bits and group, scale and offset, …) that
/// occurs in formats() occurs: what kernels are tested with. Every format outside the integer
/// family is among them.
std::vector<const Format*> coveringFormats();
/// The format of that name, or null.
const Format* findFormat(std::string_view name);
/// The format of that name, or Error{Usage} that lists the known names.
const Format& getFormat(std::string_view name);

} // namespace nibble
