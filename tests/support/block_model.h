#pragma once

#include "tests/files/gguf_bytes.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace nibble::test {

/// A block type, with where its f16 scale lies, so that random blocks hold small values.
struct BlockShape {
    uint32_t type, values, bytes;
    int scaleAt = 0;
};
inline constexpr BlockShape kIq3_s{21, 256, 110}, kIq2_xxs{16, 256, 66}, kNvfp4{40, 64, 36, -1};

/// The bytes of a llama model without a tokenizer (one layer, width 256, vocabulary 64, tied head)
/// whose matrices are random blocks; with `factor` each has a ".scale" beside it.
inline std::string blockModel(const BlockShape& shape, float factor = 0) {
    constexpr uint64_t kWidth = 256, kVocabulary = 64;
    struct Stored {
        std::string name;
        uint64_t rows;
        bool isMatrix;
    };
    std::vector<Stored> tensors{{"token_embd.weight", kVocabulary, true}};
    for (const char* name :
         {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
        tensors.push_back({std::string("blk.0.") + name + ".weight", kWidth, true});
    for (const char* name :
         {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"})
        tensors.push_back({name, 1, false});
    if (factor != 0)
        for (size_t i = 0; i < 8; ++i) {
            const std::string& name = tensors[i].name;
            tensors.push_back({name.substr(0, name.size() - 6) + "scale", 0, false});
        }

    GgufBytes file(tensors.size(), 9);
    file.key("general.architecture", 8).text("llama");
    for (const auto& [key, value] :
         std::initializer_list<std::pair<const char*, uint32_t>>{{"block_count", 1},
                                                                 {"context_length", 128},
                                                                 {"embedding_length", 256},
                                                                 {"feed_forward_length", 256},
                                                                 {"attention.head_count", 4},
                                                                 {"attention.head_count_kv", 4},
                                                                 {"rope.dimension_count", 64}})
        file.entry(std::string("llama.") + key, value);
    file.key("llama.attention.layer_norm_rms_epsilon", 6).put(1e-5f);

    const auto bytesOf = [&](const Stored& t) {
        return t.isMatrix ? t.rows * kWidth / shape.values * shape.bytes
               : t.rows   ? kWidth * sizeof(float)
                          : sizeof(float);
    };
    const auto padded = [](uint64_t bytes) { return (bytes + 31) / 32 * 32; };
    uint64_t offset = 0;
    for (const Stored& t : tensors) {
        if (t.rows > 1)
            file.tensor(t.name, {kWidth, t.rows}, shape.type, offset);
        else
            file.tensor(t.name, {t.rows ? kWidth : 1}, 0, offset);
        offset += padded(bytesOf(t));
    }
    file.pad();
    std::mt19937 random(5);
    for (const Stored& t : tensors) {
        if (!t.isMatrix)
            for (uint64_t i = 0; i < (t.rows ? kWidth : 1); ++i)
                file.put(t.rows ? 1.0f : factor);
        for (uint64_t i = 0; t.isMatrix && i < bytesOf(t); ++i) {
            const auto at = static_cast<int>(i % shape.bytes);
            const auto byte = static_cast<uint8_t>(random());
            if (shape.scaleAt < 0) // four 8-bit scales from 0.5 to 2
                file.put(at < 4 ? uint8_t(0x30 + byte % 16) : byte);
            else // 2^-10
                file.put(at == shape.scaleAt       ? uint8_t(0)
                         : at == shape.scaleAt + 1 ? uint8_t(0x14)
                                                   : byte);
        }
        file.pad();
    }
    return file.bytes();
}

} // namespace nibble::test
