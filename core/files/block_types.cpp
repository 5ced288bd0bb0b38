#include "core/files/block_codecs.h"
#include "core/files/checkpoint.h"

#include <string_view>
#include <tuple>

namespace nibble {
namespace {

using namespace blocks;

BlockType floats(const char* name, int ggufType, const char* dtype, uint32_t bytes) {
    return {name, ggufType, dtype, &getFormat(name), 1, bytes};
}
BlockType blocksOf(const char* name, int ggufType, uint32_t values, uint32_t bytes,
                   ToPlanes* toPlanes, ToBlocks* toBlocks) {
    return {name, ggufType, nullptr, &getFormat(name), values, bytes, toPlanes, toBlocks};
}
/// f16 keeps 11 bits of each value: rounding to it moves the weights by 2e-4 of their norm
/// (measured on iq3_s and iq3_xxs), far less than these types lost when they were made.
BlockType decoded(const char* name, int ggufType, uint32_t bytes, Decode* decode) {
    return {.name = name,
            .ggufType = ggufType,
            .dtype = nullptr,
            .format = &getFormat("f16"),
            .blockValues = 256,
            .blockBytes = bytes,
            .decode = decode};
}
BlockType withFactors(BlockType type, const char* format) {
    type.factoredFormat = &getFormat(format);
    return type;
}
/// Sizes are known, so files with such tensors open; the values are not decoded.
BlockType listed(const char* name, int ggufType, const char* dtype, uint32_t values,
                 uint32_t bytes) {
    return {name, ggufType, dtype, nullptr, values, bytes};
}

/// Numbers and sizes of llama.cpp's ggml.h and ggml-common.h; dtypes of the safetensors format.
std::vector<BlockType> table() {
    return {
        floats("f32", 0, "F32", 4),
        floats("f16", 1, "F16", 2),
        floats("bf16", 30, "BF16", 2),
        blocksOf("q4_0", 2, 32, 18, fromQ4_0, toQ4_0),
        blocksOf("q4_1", 3, 32, 20, fromQ4_1, toQ4_1),
        blocksOf("q5_0", 6, 32, 22, fromQ5_0, toQ5_0),
        blocksOf("q5_1", 7, 32, 24, fromQ5_1, toQ5_1),
        blocksOf("q8_0", 8, 32, 34, fromQ8_0, toQ8_0),
        blocksOf("q2_k", 10, 256, 84, fromQ2_K, toQ2_K),
        blocksOf("q3_k", 11, 256, 110, fromQ3_K, toQ3_K),
        blocksOf("q4_k", 12, 256, 144, fromQ4_K, toQ4_K),
        blocksOf("q5_k", 13, 256, 176, fromQ5_K, toQ5_K),
        blocksOf("q6_k", 14, 256, 210, fromQ6_K, toQ6_K),
        blocksOf("iq4_nl", 20, 32, 18, fromQ4_0, toQ4_0),
        blocksOf("iq4_xs", 23, 256, 136, fromIq4_xs, toIq4_xs),
        blocksOf("tq1_0", 34, 256, 54, fromTq1_0, toTq1_0),
        blocksOf("tq2_0", 35, 256, 66, fromTq2_0, toTq2_0),
        blocksOf("mxfp4", 39, 32, 17, fromMxfp4, toMxfp4),
        withFactors(blocksOf("nvfp4", 40, 64, 36, fromNvfp4, toNvfp4), "nvfp4_f32"),
        decoded("iq2_xxs", 16, 66, decodeIq2_xxs),
        decoded("iq2_xs", 17, 74, decodeIq2_xs),
        decoded("iq3_xxs", 18, 98, decodeIq3_xxs),
        decoded("iq1_s", 19, 50, decodeIq1_s),
        decoded("iq3_s", 21, 110, decodeIq3_s),
        decoded("iq2_s", 22, 82, decodeIq2_s),
        decoded("iq1_m", 29, 56, decodeIq1_m),
        listed("q8_1", 9, nullptr, 32, 36),
        listed("q8_k", 15, nullptr, 256, 292),
        listed("i8", 24, "I8", 1, 1),
        listed("i16", 25, "I16", 1, 2),
        listed("i32", 26, "I32", 1, 4),
        listed("i64", 27, "I64", 1, 8),
        listed("f64", 28, "F64", 1, 8),
        listed("bool", -1, "BOOL", 1, 1),
        listed("u8", -1, "U8", 1, 1),
        listed("u16", -1, "U16", 1, 2),
        listed("u32", -1, "U32", 1, 4),
        listed("u64", -1, "U64", 1, 8),
        listed("c64", -1, "C64", 1, 8),
        listed("f8_e4m3", -1, "F8_E4M3", 1, 1),
        listed("f8_e5m2", -1, "F8_E5M2", 1, 1),
        listed("f8_e8m0", -1, "F8_E8M0", 1, 1),
        listed("f4", -1, "F4", 2, 1),
        listed("f6_e2m3", -1, "F6_E2M3", 4, 3),
        listed("f6_e3m2", -1, "F6_E3M2", 4, 3),
    };
}

} // namespace

std::span<const BlockType> blockTypes() {
    static const std::vector<BlockType> types = table();
    return types;
}

const BlockType* findBlockType(int ggufType) {
    for (const BlockType& type : blockTypes())
        if (ggufType >= 0 && type.ggufType == ggufType)
            return &type;
    return nullptr;
}

const BlockType* blockTypeOf(const Format& format) {
    for (const BlockType& type : blockTypes())
        if (type.format && !type.decode && type.ggufType >= 0 &&
            std::string_view(type.format->name) == format.name)
            return &type;
    return nullptr;
}

const BlockType* blockTypeHolding(const Format& format) {
    const auto values = [](const Format& f) {
        return std::tie(f.code, f.bits, f.zero, f.table, f.unit, f.group, f.scale, f.scaleBits,
                        f.scaleZero, f.offset, f.offsetBits, f.super);
    };
    if (const BlockType* exact = blockTypeOf(format))
        return exact;
    for (const BlockType& type : blockTypes())
        if (type.format && !type.decode && type.ggufType >= 0 &&
            values(*type.format) == values(format))
            return &type;
    return nullptr;
}

} // namespace nibble
