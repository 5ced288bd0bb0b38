#include "core/files/block_codecs.h"

/// Blocks of 32 values: q4_0, q4_1, q5_0, q5_1, q8_0, iq4_nl (laid out like q4_0), mxfp4; and
/// nvfp4, 64 values in four groups of 16.
namespace nibble::blocks {
namespace {

/// 16 bytes: low nibbles are values 0–15, high nibbles 16–31.
void takeNibbles(const uint8_t* from, uint8_t* codes) {
    takeBits<16>(from, 0, 4, 0, codes);
    takeBits<16>(from, 4, 4, 0, codes + 16);
}
void putNibbles(const uint8_t* codes, uint8_t* to) {
    putBits<16>(codes, 0, 4, 0, to);
    putBits<16>(codes + 16, 0, 4, 4, to);
}

/// q4_0, q4_1, q5_0, q5_1: an f16 scale, an f16 offset (hasOffset), 32 fifth bits (hasFifth),
/// nibbles.
template <bool hasOffset, bool hasFifth>
struct Simple {
    static constexpr int kFifth = hasOffset ? 4 : 2, kNibbles = kFifth + (hasFifth ? 4 : 0);
    static constexpr int kBytes = kNibbles + 16;

    static void read(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
        readRow<32, kBytes>(
            blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
                out.setScale(row, i, loadHalf(b));
                if constexpr (hasOffset)
                    out.setOffset(row, i, loadHalf(b + 2));
                takeNibbles(b + kNibbles, codes);
                if constexpr (hasFifth)
                    for (int e = 0; e < 32; ++e)
                        codes[e] = static_cast<uint8_t>(
                            codes[e] | (unsigned(b[kFifth + e / 8]) >> (e % 8) & 1u) << 4);
            });
    }
    static void write(const Tensor& t, int64_t row, std::byte* blocks) {
        if constexpr (!hasFifth) {
            writeRecords<4, kBytes>(t, row, blocks,
                                    [&](const std::byte* record, uint8_t* b, int64_t i) {
                                        storeHalf(b, static_cast<uint16_t>(rawScale(t, row, i)));
                                        if constexpr (hasOffset)
                                            storeHalf(b + 2, rawOffset(t, row, i));
                                        std::memcpy(b + kNibbles, record, 16);
                                    });
            return;
        }
        writeRow<32, kBytes>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
            storeHalf(b, static_cast<uint16_t>(rawScale(t, row, i)));
            if constexpr (hasOffset)
                storeHalf(b + 2, rawOffset(t, row, i));
            putNibbles(codes, b + kNibbles);
            if constexpr (hasFifth)
                for (int e = 0; e < 32; ++e)
                    b[kFifth + e / 8] = static_cast<uint8_t>(
                        b[kFifth + e / 8] | (unsigned(codes[e]) >> 4 & 1u) << (e % 8));
        });
    }
};

} // namespace

void fromQ4_0(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    Simple<false, false>::read(b, row, n, out);
}
void toQ4_0(const Tensor& t, int64_t row, std::byte* b) {
    Simple<false, false>::write(t, row, b);
}

void fromQ4_1(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    Simple<true, false>::read(b, row, n, out);
}
void toQ4_1(const Tensor& t, int64_t row, std::byte* b) {
    Simple<true, false>::write(t, row, b);
}

void fromQ5_0(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    Simple<false, true>::read(b, row, n, out);
}
void toQ5_0(const Tensor& t, int64_t row, std::byte* b) {
    Simple<false, true>::write(t, row, b);
}

void fromQ5_1(const std::byte* b, int64_t row, int64_t n, TensorBuilder& out) {
    Simple<true, true>::read(b, row, n, out);
}
void toQ5_1(const Tensor& t, int64_t row, std::byte* b) {
    Simple<true, true>::write(t, row, b);
}

void fromQ8_0(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<32, 34>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        out.setScale(row, i, loadHalf(b));
        std::memcpy(codes, b + 2, 32);
    });
}
void toQ8_0(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRecords<8, 34>(t, row, blocks, [&](const std::byte* record, uint8_t* b, int64_t i) {
        storeHalf(b, static_cast<uint16_t>(rawScale(t, row, i)));
        std::memcpy(b + 2, record, 32);
    });
}

void fromMxfp4(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<32, 17>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        out.setScale(row, i, b[0]);
        takeNibbles(b + 1, codes);
    });
}
void toMxfp4(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRecords<4, 17>(t, row, blocks, [&](const std::byte* record, uint8_t* b, int64_t i) {
        b[0] = static_cast<uint8_t>(rawScale(t, row, i));
        std::memcpy(b + 1, record, 16);
    });
}

void fromNvfp4(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<64, 36>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        for (int s = 0; s < 4; ++s) {
            out.setScale(row, i * 4 + s, b[s]);
            takeBits<8>(b + 4 + s * 8, 0, 4, 0, codes + s * 16);
            takeBits<8>(b + 4 + s * 8, 4, 4, 0, codes + s * 16 + 8);
        }
    });
}
void toNvfp4(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<64, 36>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        for (int s = 0; s < 4; ++s) {
            b[s] = static_cast<uint8_t>(rawScale(t, row, i * 4 + s));
            putBits<8>(codes + s * 16, 0, 4, 0, b + 4 + s * 8);
            putBits<8>(codes + s * 16 + 8, 0, 4, 4, b + 4 + s * 8);
        }
    });
}

} // namespace nibble::blocks
