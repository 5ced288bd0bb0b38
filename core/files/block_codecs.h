#pragma once

#include "core/tensor/planes.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

/// How blocks of GGUF files (layouts of llama.cpp's ggml-common.h) become canonical planes and
/// back, one pair of functions per block type, bit-exact in both directions; or values, for the
/// lattice types that no planes describe. `blocks` is one row.
namespace nibble::blocks {

using ToPlanes = void(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out);
using ToBlocks = void(const Tensor& tensor, int64_t row, std::byte* blocks);
using Decode = void(const std::byte* blocks, int64_t count, float* values);

ToPlanes fromQ4_0, fromQ4_1, fromQ5_0, fromQ5_1, fromQ8_0, fromMxfp4, fromNvfp4;
ToBlocks toQ4_0, toQ4_1, toQ5_0, toQ5_1, toQ8_0, toMxfp4, toNvfp4;
ToPlanes fromQ2_K, fromQ3_K, fromQ4_K, fromQ5_K, fromQ6_K, fromIq4_xs, fromTq1_0, fromTq2_0;
ToBlocks toQ2_K, toQ3_K, toQ4_K, toQ5_K, toQ6_K, toIq4_xs, toTq1_0, toTq2_0;
Decode decodeIq2_xxs, decodeIq2_xs, decodeIq2_s, decodeIq3_xxs, decodeIq3_s, decodeIq1_s,
    decodeIq1_m;

inline uint16_t loadHalf(const uint8_t* at) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return bits;
}
inline void storeHalf(uint8_t* at, uint16_t bits) {
    std::memcpy(at, &bits, 2);
}

/// k-quants subtract dmin · m where planes add: flipping the sign bit is exact for every pattern.
inline uint16_t negatedHalf(uint16_t bits) {
    return static_cast<uint16_t>(bits ^ 0x8000u);
}

/// Bits [shift, shift + bits) of `from[i]` joined to codes[i], for n codes.
template <int n>
void takeBits(const uint8_t* __restrict from, int shift, int bits, int codeShift,
              uint8_t* __restrict codes) {
    const unsigned mask = (1u << bits) - 1;
    for (int i = 0; i < n; ++i)
        codes[i] =
            static_cast<uint8_t>(codes[i] | (unsigned(from[i]) >> shift & mask) << codeShift);
}

/// The inverse of takeBits.
template <int n>
void putBits(const uint8_t* __restrict codes, int codeShift, int bits, int shift,
             uint8_t* __restrict to) {
    const unsigned mask = (1u << bits) - 1;
    for (int i = 0; i < n; ++i)
        to[i] = static_cast<uint8_t>(to[i] | (unsigned(codes[i]) >> codeShift & mask) << shift);
}

/// Runs `unpack(block, codes, index)` over a row's blocks and stores the codes it fills in (zeroed
/// before).
template <int values, int bytes, typename Unpack>
void readRow(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out,
             Unpack unpack) {
    thread_local std::vector<uint8_t> codes;
    codes.assign(static_cast<size_t>(count * values), 0);
    for (int64_t i = 0; i < count; ++i)
        unpack(reinterpret_cast<const uint8_t*>(blocks) + i * bytes, codes.data() + i * values, i);
    out.setCodes(row, codes.data());
}

/// Runs `pack(codes, block, index)` over a row's blocks, which are zeroed before.
template <int values, int bytes, typename Pack>
void writeRow(const Tensor& tensor, int64_t row, std::byte* blocks, Pack pack) {
    thread_local std::vector<uint8_t> codes;
    codes.resize(static_cast<size_t>(tensor.cols));
    unpackCodes(tensor, row, codes.data());
    const int64_t count = tensor.cols / values;
    std::memset(blocks, 0, static_cast<size_t>(count * bytes));
    for (int64_t i = 0; i < count; ++i)
        pack(codes.data() + i * values, reinterpret_cast<uint8_t*>(blocks) + i * bytes, i);
}

/// Runs `pack(record, block, index)` over a row's blocks of 32 values with codes of `bits` bits,
/// for types that keep the codes of a block just as the record of a plane does.
template <int bits, int bytes, typename Pack>
void writeRecords(const Tensor& tensor, int64_t row, std::byte* blocks, Pack pack) {
    const int64_t count = tensor.cols / 32;
    const std::byte* records = tensor.codes.data() + row * tensor.blocks() * (4 * bits);
    for (int64_t i = 0; i < count; ++i)
        pack(records + i * (4 * bits), reinterpret_cast<uint8_t*>(blocks) + i * bytes, i);
}

} // namespace nibble::blocks
