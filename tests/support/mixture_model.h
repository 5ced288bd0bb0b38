#pragma once

#include "tests/files/gguf_bytes.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace nibble::test {

/// A llama model whose layers are all mixtures, without a tokenizer, with a tied head.
struct MixtureShape {
    uint64_t layers = 4, width = 64, feedForward = 96, experts = 8, used = 2, vocabulary = 64;
    bool halves = false; ///< f16, else f32

    uint64_t valueBytes() const { return halves ? 2 : 4; }
    /// Of the matrices of a layer's experts.
    uint64_t expertBytes() const { return 3 * experts * width * feedForward * valueBytes(); }
};

struct MixtureFile {
    struct Stored {
        std::string name;
        std::vector<uint64_t> innermostFirst;
        uint64_t values() const {
            uint64_t count = 1;
            for (const uint64_t size : innermostFirst)
                count *= size;
            return count;
        }
        bool isVector() const { return innermostFirst.size() == 1; }
    };
    std::string head; ///< all before the values
    std::vector<Stored> tensors;
    uint64_t bytes = 0; ///< with the values
};

inline std::vector<MixtureFile::Stored> mixtureTensors(const MixtureShape& s) {
    std::vector<MixtureFile::Stored> tensors{{"token_embd.weight", {s.width, s.vocabulary}}};
    for (uint64_t layer = 0; layer < s.layers; ++layer) {
        const auto add = [&](const char* name, std::vector<uint64_t> sizes) {
            tensors.push_back(
                {"blk." + std::to_string(layer) + "." + name + ".weight", std::move(sizes)});
        };
        add("attn_norm", {s.width});
        for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
            add(name, {s.width, s.width});
        add("ffn_norm", {s.width});
        add("ffn_gate_inp", {s.width, s.experts});
        add("ffn_gate_exps", {s.width, s.feedForward, s.experts});
        add("ffn_up_exps", {s.width, s.feedForward, s.experts});
        add("ffn_down_exps", {s.feedForward, s.width, s.experts});
    }
    tensors.push_back({"output_norm.weight", {s.width}});
    return tensors;
}

inline MixtureFile mixtureFile(const MixtureShape& shape) {
    MixtureFile made{.head = {}, .tensors = mixtureTensors(shape)};
    GgufBytes file(made.tensors.size(), 11);
    file.key("general.architecture", 8).text("llama");
    const auto heads = static_cast<uint32_t>(shape.width / 32);
    for (const auto& [key, value] :
         std::vector<std::pair<const char*, uint64_t>>{{"block_count", shape.layers},
                                                       {"context_length", 4096},
                                                       {"embedding_length", shape.width},
                                                       {"feed_forward_length", shape.feedForward},
                                                       {"attention.head_count", heads},
                                                       {"attention.head_count_kv", heads},
                                                       {"rope.dimension_count", 32},
                                                       {"expert_count", shape.experts},
                                                       {"expert_used_count", shape.used}})
        file.entry(std::string("llama.") + key, static_cast<uint32_t>(value));
    file.key("llama.attention.layer_norm_rms_epsilon", 6).put(1e-5f);
    uint64_t offset = 0;
    for (const MixtureFile::Stored& t : made.tensors) {
        // Routers and norms are f32 in every file.
        const bool f32 = t.isVector() || t.name.find("gate_inp") != std::string::npos;
        const uint64_t each = f32 ? 4 : shape.valueBytes();
        file.text(t.name).put(static_cast<uint32_t>(t.innermostFirst.size()));
        for (const uint64_t size : t.innermostFirst)
            file.put(size);
        file.put(static_cast<uint32_t>(each == 4 ? 0 : 1)).put(offset);
        offset += (t.values() * each + 31) / 32 * 32;
    }
    file.pad();
    made.head = file.bytes();
    made.bytes = made.head.size() + offset;
    return made;
}

/// The bytes of such a file in f32, with random values.
inline std::string mixtureModel(const MixtureShape& shape) {
    MixtureFile file = mixtureFile(shape);
    std::mt19937 random(11);
    for (const MixtureFile::Stored& t : file.tensors) {
        const float most = 1.5f / std::sqrt(static_cast<float>(t.innermostFirst.front()));
        for (uint64_t i = 0; i < t.values(); ++i) {
            const float value =
                t.isVector() ? 1.0f : most * static_cast<float>(int(random() % 2001) - 1000) / 1000;
            file.head.append(reinterpret_cast<const char*>(&value), sizeof value);
        }
        file.head.resize((file.head.size() + 31) / 32 * 32, '\0');
    }
    return file.head;
}

} // namespace nibble::test
