#include "core/base/half.h"
#include "core/files/block_codecs.h"
#include "core/files/lattice_grids.h"

/// IQ1, IQ2 and IQ3: blocks of 256 values, each run of 8 or 4 one point of a grid. They are only
/// decoded. Every product here is exact in float32 (11 bits of d, at most 5 of the scale, at most 6
/// of a coordinate), so the order of the factors does not matter.
namespace nibble::blocks {
namespace {

constexpr float kIq1Shift = 0.125f; ///< moves all values of an IQ1 point up or down

uint32_t loadWord(const uint8_t* at) {
    uint32_t word;
    std::memcpy(&word, at, 4);
    return word;
}

unsigned nibbleOf(uint8_t byte, int which) {
    return unsigned(byte) >> (4 * which) & 15u;
}

/// Seven signs are stored; the eighth makes the number of minuses even.
unsigned eightSigns(unsigned seven) {
    return seven | (static_cast<unsigned>(__builtin_popcount(seven)) & 1u) << 7;
}

/// One point times `scale`; bit j of `signs` negates coordinate j.
void putSigned(const LatticeGrid& grid, unsigned index, unsigned signs, float scale, float* out) {
    const int8_t* point = grid.point(index);
    for (int j = 0; j < grid.dims; ++j)
        out[j] = (signs >> j & 1u ? -scale : scale) * static_cast<float>(point[j]);
}

void putShifted(unsigned index, bool down, float scale, float* out) {
    const int8_t* point = gridIq1().point(index);
    const float shift = down ? -kIq1Shift : kIq1Shift;
    for (int j = 0; j < 8; ++j)
        out[j] = scale * (static_cast<float>(point[j]) + shift);
}

template <int bytes, typename Decode>
void eachBlock(const std::byte* blocks, int64_t count, float* values, Decode decode) {
    for (int64_t i = 0; i < count; ++i)
        decode(reinterpret_cast<const uint8_t*>(blocks) + i * bytes, values + i * 256);
}

} // namespace

/// d; for each 32 values 4 indexes, then a word of four times 7 signs and a 4-bit scale.
void decodeIq2_xxs(const std::byte* blocks, int64_t count, float* values) {
    const LatticeGrid& grid = gridIq2_xxs();
    eachBlock<66>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int g = 0; g < 8; ++g) {
            const uint8_t* indexes = b + 2 + 8 * g;
            const uint32_t word = loadWord(indexes + 4);
            const float scale = d * (static_cast<float>(word >> 28) + 0.5f) * 0.25f;
            for (int k = 0; k < 4; ++k)
                putSigned(grid, indexes[k], eightSigns(word >> (7 * k) & 127u), scale,
                          out + 32 * g + 8 * k);
        }
    });
}

/// d; 32 words of a 9-bit index and 7 signs; 16 scales of 4 bits.
void decodeIq2_xs(const std::byte* blocks, int64_t count, float* values) {
    const LatticeGrid& grid = gridIq2_xs();
    eachBlock<74>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int k = 0; k < 32; ++k) {
            const unsigned word = loadHalf(b + 2 + 2 * k);
            const unsigned code = nibbleOf(b[66 + k / 4], k / 2 % 2);
            putSigned(grid, word & 511u, eightSigns(word >> 9),
                      d * (static_cast<float>(code) + 0.5f) * 0.25f, out + 8 * k);
        }
    });
}

/// d; 32 low bytes of indexes; 32 bytes of signs; their 2 high bits, four a byte; 16 scales of 4
/// bits.
void decodeIq2_s(const std::byte* blocks, int64_t count, float* values) {
    const LatticeGrid& grid = gridIq2_s();
    eachBlock<82>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int k = 0; k < 32; ++k) {
            const unsigned high = unsigned(b[66 + k / 4]) >> (2 * (k % 4)) & 3u;
            const unsigned code = nibbleOf(b[74 + k / 4], k / 2 % 2);
            putSigned(grid, b[2 + k] | high << 8, b[34 + k],
                      d * (static_cast<float>(code) + 0.5f) * 0.25f, out + 8 * k);
        }
    });
}

/// d; 64 indexes; for each 32 values a word of four times 7 signs and a 4-bit scale.
void decodeIq3_xxs(const std::byte* blocks, int64_t count, float* values) {
    const LatticeGrid& grid = gridIq3_xxs();
    eachBlock<98>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int k = 0; k < 64; ++k) {
            const uint32_t word = loadWord(b + 66 + 4 * (k / 8));
            const unsigned signs = eightSigns(word >> (7 * (k / 2 % 4)) & 127u);
            putSigned(grid, b[2 + k], signs >> (4 * (k % 2)),
                      d * (static_cast<float>(word >> 28) + 0.5f) * 0.5f, out + 4 * k);
        }
    });
}

/// d; 64 low bytes of indexes; their high bits; 32 bytes of signs; 8 scales of 4 bits.
void decodeIq3_s(const std::byte* blocks, int64_t count, float* values) {
    const LatticeGrid& grid = gridIq3_s();
    eachBlock<110>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int k = 0; k < 64; ++k) {
            const unsigned high = unsigned(b[66 + k / 8]) >> (k % 8) & 1u;
            const unsigned code = nibbleOf(b[106 + k / 16], k / 8 % 2);
            putSigned(grid, b[2 + k] | high << 8, unsigned(b[74 + k / 2]) >> (4 * (k % 2)),
                      d * static_cast<float>(2 * code + 1), out + 4 * k);
        }
    });
}

/// d; 32 low bytes of indexes; for each 32 values a word of four times 3 high bits, a 3-bit scale
/// and the shift's sign.
void decodeIq1_s(const std::byte* blocks, int64_t count, float* values) {
    eachBlock<50>(blocks, count, values, [&](const uint8_t* b, float* out) {
        const float d = halfToFloat(loadHalf(b));
        for (int k = 0; k < 32; ++k) {
            const unsigned word = loadHalf(b + 34 + 2 * (k / 4));
            const unsigned high = word >> (3 * (k % 4)) & 7u;
            putShifted(b[2 + k] | high << 8, word >> 15,
                       d * static_cast<float>(2 * (word >> 12 & 7u) + 1), out + 8 * k);
        }
    });
}

/// 32 low bytes of indexes; for each a nibble of 3 high bits and the shift's sign; four words of
/// four 3-bit scales, whose top nibbles together are d.
void decodeIq1_m(const std::byte* blocks, int64_t count, float* values) {
    eachBlock<56>(blocks, count, values, [&](const uint8_t* b, float* out) {
        unsigned words[4], half = 0;
        for (int i = 0; i < 4; ++i) {
            words[i] = loadHalf(b + 48 + 2 * i);
            half |= words[i] >> 12 << (4 * i);
        }
        const float d = halfToFloat(static_cast<uint16_t>(half));
        for (int k = 0; k < 32; ++k) {
            const unsigned nibble = nibbleOf(b[32 + k / 2], k % 2);
            const unsigned code = words[k / 8] >> (3 * (k / 2 % 4)) & 7u;
            putShifted(b[k] | (nibble & 7u) << 8, nibble >> 3, d * static_cast<float>(2 * code + 1),
                       out + 8 * k);
        }
    });
}

} // namespace nibble::blocks
