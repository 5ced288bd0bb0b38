#pragma once

#include "tests/files/gguf_bytes.h"

#include <random>
#include <string>
#include <vector>

namespace nibble::test {

/// The bytes of a llama model in f32 without a tokenizer: one layer, heads of 64, vocabulary 64,
/// tied head, small random weights.
inline std::string floatModel(uint64_t width, uint64_t feedForward) {
    struct Stored {
        std::string name;
        uint64_t cols, rows; ///< of a vector: 0 rows
        uint64_t values() const { return cols * (rows == 0 ? 1 : rows); }
    };
    std::vector<Stored> tensors{{"token_embd.weight", width, 64}};
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
        tensors.push_back({std::string("blk.0.") + name + ".weight", width, width});
    for (const char* name : {"ffn_gate", "ffn_up"})
        tensors.push_back({std::string("blk.0.") + name + ".weight", width, feedForward});
    tensors.push_back({"blk.0.ffn_down.weight", feedForward, width});
    for (const char* name :
         {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"})
        tensors.push_back({name, width, 0});

    GgufBytes file(tensors.size(), 10);
    file.key("general.architecture", 8).text("llama");
    file.key("general.name", 8).text("Plain");
    const auto heads = static_cast<uint32_t>(width / 64);
    for (const auto& [key, value] : std::vector<std::pair<const char*, uint32_t>>{
             {"block_count", 1},
             {"context_length", 128},
             {"embedding_length", static_cast<uint32_t>(width)},
             {"feed_forward_length", static_cast<uint32_t>(feedForward)},
             {"attention.head_count", heads},
             {"attention.head_count_kv", heads},
             {"rope.dimension_count", 64}})
        file.entry(std::string("llama.") + key, value);
    file.key("llama.attention.layer_norm_rms_epsilon", 6).put(1e-5f);
    uint64_t offset = 0;
    for (const Stored& t : tensors) {
        if (t.rows == 0)
            file.tensor(t.name, {t.cols}, 0, offset);
        else
            file.tensor(t.name, {t.cols, t.rows}, 0, offset);
        offset += (t.values() * sizeof(float) + 31) / 32 * 32;
    }
    file.pad();
    std::mt19937 random(7);
    for (const Stored& t : tensors) {
        for (uint64_t i = 0; i < t.values(); ++i)
            file.put(t.rows == 0 ? 1.0f : float(int(random() % 2001) - 1000) / 20000);
        file.pad();
    }
    return file.bytes();
}

} // namespace nibble::test
