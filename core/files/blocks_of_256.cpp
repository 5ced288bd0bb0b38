#include "core/files/block_codecs.h"

/// Blocks of 256 values with integer group scales: the k-quants and iq4_xs.
namespace nibble::blocks {
namespace {

/// 64 bytes of 2-bit fields: byte 32n + l at shift 2t is value 128n + 32t + l.
void takePairs(const uint8_t* from, int codeShift, uint8_t* codes) {
    for (int n = 0; n < 2; ++n)
        for (int t = 0; t < 4; ++t)
            takeBits<32>(from + 32 * n, 2 * t, 2, codeShift, codes + 128 * n + 32 * t);
}
void putPairs(const uint8_t* codes, int codeShift, uint8_t* to) {
    for (int n = 0; n < 2; ++n)
        for (int t = 0; t < 4; ++t)
            putBits<32>(codes + 128 * n + 32 * t, codeShift, 2, 2 * t, to + 32 * n);
}

/// 32 bytes of single bits: byte l at bit t is value 32t + l.
void takeSingles(const uint8_t* from, int codeShift, uint8_t* codes) {
    for (int t = 0; t < 8; ++t)
        takeBits<32>(from, t, 1, codeShift, codes + 32 * t);
}
void putSingles(const uint8_t* codes, int codeShift, uint8_t* to) {
    for (int t = 0; t < 8; ++t)
        putBits<32>(codes + 32 * t, codeShift, 1, t, to);
}

/// 128 bytes of nibbles: 32 bytes hold one group in the low and the next in the high nibbles.
void takeNibbles(const uint8_t* from, uint8_t* codes) {
    for (int i = 0; i < 4; ++i) {
        takeBits<32>(from + 32 * i, 0, 4, 0, codes + 64 * i);
        takeBits<32>(from + 32 * i, 4, 4, 0, codes + 64 * i + 32);
    }
}
void putNibbles(const uint8_t* codes, uint8_t* to) {
    for (int i = 0; i < 4; ++i) {
        putBits<32>(codes + 64 * i, 0, 4, 0, to + 32 * i);
        putBits<32>(codes + 64 * i + 32, 0, 4, 4, to + 32 * i);
    }
}

/// q4_k and q5_k: eight 6-bit scales and eight 6-bit offsets in 12 bytes.
void takeScales12(const uint8_t* s, uint8_t* scales, uint8_t* offsets) {
    for (int j = 0; j < 4; ++j) {
        scales[j] = s[j] & 63;
        offsets[j] = s[j + 4] & 63;
        scales[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | (s[j] >> 6) << 4);
        offsets[j + 4] = static_cast<uint8_t>(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
    }
}
void putScales12(const uint8_t* scales, const uint8_t* offsets, uint8_t* s) {
    for (int j = 0; j < 4; ++j) {
        s[j] = static_cast<uint8_t>((scales[j] & 63) | (scales[j + 4] >> 4) << 6);
        s[j + 4] = static_cast<uint8_t>((offsets[j] & 63) | (offsets[j + 4] >> 4) << 6);
        s[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | (offsets[j + 4] & 15) << 4);
    }
}

/// q4_k, and q5_k with a fifth bit for each value before the nibbles.
template <bool hasFifth>
struct FourOrFive {
    static constexpr int kNibbles = hasFifth ? 48 : 16, kBytes = kNibbles + 128;

    static void read(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
        readRow<256, kBytes>(blocks, row, count, out,
                             [&](const uint8_t* b, uint8_t* codes, int64_t i) {
                                 out.setSuperScale(row, i, loadHalf(b));
                                 out.setSuperOffset(row, i, negatedHalf(loadHalf(b + 2)));
                                 uint8_t scales[8], offsets[8];
                                 takeScales12(b + 4, scales, offsets);
                                 for (int g = 0; g < 8; ++g) {
                                     out.setScale(row, i * 8 + g, scales[g]);
                                     out.setOffset(row, i * 8 + g, offsets[g]);
                                 }
                                 takeNibbles(b + kNibbles, codes);
                                 if constexpr (hasFifth)
                                     takeSingles(b + 16, 4, codes);
                             });
    }
    static void write(const Tensor& t, int64_t row, std::byte* blocks) {
        writeRow<256, kBytes>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
            storeHalf(b, rawSuperScale(t, row, i));
            storeHalf(b + 2, negatedHalf(rawSuperOffset(t, row, i)));
            uint8_t scales[8], offsets[8];
            for (int g = 0; g < 8; ++g) {
                scales[g] = static_cast<uint8_t>(rawScale(t, row, i * 8 + g));
                offsets[g] = static_cast<uint8_t>(rawOffset(t, row, i * 8 + g));
            }
            putScales12(scales, offsets, b + 4);
            putNibbles(codes, b + kNibbles);
            if constexpr (hasFifth)
                putSingles(codes, 4, b + 16);
        });
    }
};

} // namespace

void fromQ2_K(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 84>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        for (int g = 0; g < 16; ++g) {
            out.setScale(row, i * 16 + g, b[g] & 15);
            out.setOffset(row, i * 16 + g, b[g] >> 4);
        }
        takePairs(b + 16, 0, codes);
        out.setSuperScale(row, i, loadHalf(b + 80));
        out.setSuperOffset(row, i, negatedHalf(loadHalf(b + 82)));
    });
}
void toQ2_K(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 84>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        for (int g = 0; g < 16; ++g)
            b[g] = static_cast<uint8_t>((rawScale(t, row, i * 16 + g) & 15) |
                                        unsigned(rawOffset(t, row, i * 16 + g)) << 4);
        putPairs(codes, 0, b + 16);
        storeHalf(b + 80, rawSuperScale(t, row, i));
        storeHalf(b + 82, negatedHalf(rawSuperOffset(t, row, i)));
    });
}

void fromQ3_K(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 110>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        takePairs(b + 32, 0, codes);
        takeSingles(b, 2, codes);
        const uint8_t* s = b + 96;
        for (int g = 0; g < 16; ++g) {
            const unsigned low = g < 8 ? s[g] & 15u : s[g - 8] >> 4;
            const unsigned high = unsigned(s[8 + g % 4]) >> (2 * (g / 4)) & 3u;
            out.setScale(row, i * 16 + g, low | high << 4);
        }
        out.setSuperScale(row, i, loadHalf(b + 108));
    });
}
void toQ3_K(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 110>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        putPairs(codes, 0, b + 32);
        putSingles(codes, 2, b);
        uint8_t* s = b + 96;
        for (int g = 0; g < 16; ++g) {
            const uint32_t code = rawScale(t, row, i * 16 + g);
            s[g % 8] = static_cast<uint8_t>(s[g % 8] | (code & 15) << (g < 8 ? 0 : 4));
            s[8 + g % 4] = static_cast<uint8_t>(s[8 + g % 4] | (code >> 4 & 3) << (2 * (g / 4)));
        }
        storeHalf(b + 108, rawSuperScale(t, row, i));
    });
}

void fromQ4_K(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    FourOrFive<false>::read(b, row, n, out);
}
void toQ4_K(const Tensor& t, int64_t row, std::byte* b) {
    FourOrFive<false>::write(t, row, b);
}

void fromQ5_K(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    FourOrFive<true>::read(b, row, n, out);
}
void toQ5_K(const Tensor& t, int64_t row, std::byte* b) {
    FourOrFive<true>::write(t, row, b);
}

void fromQ6_K(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 210>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        for (int n = 0; n < 2; ++n) {
            takeBits<64>(b + 64 * n, 0, 4, 0, codes + 128 * n);
            takeBits<64>(b + 64 * n, 4, 4, 0, codes + 128 * n + 64);
        }
        takePairs(b + 128, 4, codes);
        for (int g = 0; g < 16; ++g)
            out.setScale(row, i * 16 + g, b[192 + g]);
        out.setSuperScale(row, i, loadHalf(b + 208));
    });
}
void toQ6_K(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 210>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        for (int n = 0; n < 2; ++n) {
            putBits<64>(codes + 128 * n, 0, 4, 0, b + 64 * n);
            putBits<64>(codes + 128 * n + 64, 0, 4, 4, b + 64 * n);
        }
        putPairs(codes, 4, b + 128);
        for (int g = 0; g < 16; ++g)
            b[192 + g] = static_cast<uint8_t>(rawScale(t, row, i * 16 + g));
        storeHalf(b + 208, rawSuperScale(t, row, i));
    });
}

void fromIq4_xs(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 136>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        out.setSuperScale(row, i, loadHalf(b));
        const unsigned high = loadHalf(b + 2);
        for (int g = 0; g < 8; ++g) {
            const unsigned low = unsigned(b[4 + g / 2]) >> (4 * (g % 2)) & 15u;
            out.setScale(row, i * 8 + g, low | (high >> (2 * g) & 3u) << 4);
            takeBits<16>(b + 8 + 16 * g, 0, 4, 0, codes + 32 * g);
            takeBits<16>(b + 8 + 16 * g, 4, 4, 0, codes + 32 * g + 16);
        }
    });
}
void toIq4_xs(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 136>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        storeHalf(b, rawSuperScale(t, row, i));
        unsigned high = 0;
        for (int g = 0; g < 8; ++g) {
            const uint32_t code = rawScale(t, row, i * 8 + g);
            high |= (code >> 4 & 3) << (2 * g);
            b[4 + g / 2] = static_cast<uint8_t>(b[4 + g / 2] | (code & 15) << (4 * (g % 2)));
            putBits<16>(codes + 32 * g, 0, 4, 0, b + 8 + 16 * g);
            putBits<16>(codes + 32 * g + 16, 0, 4, 4, b + 8 + 16 * g);
        }
        storeHalf(b + 2, static_cast<uint16_t>(high));
    });
}

void fromTq2_0(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 66>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        takePairs(b, 0, codes);
        out.setScale(row, i, loadHalf(b + 64));
    });
}
void toTq2_0(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 66>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        putPairs(codes, 0, b);
        storeHalf(b + 64, static_cast<uint16_t>(rawScale(t, row, i)));
    });
}

} // namespace nibble::blocks
