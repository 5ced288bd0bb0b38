#include "core/base/limits.h"
#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::RopeFactors, "rope_freqs.weight", nullptr, false},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Role::QueryBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", false},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Role::KeyBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", false},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Role::ValueBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", false},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Role::AttentionOutputBias, "blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias",
     false},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Role::GateBias, "blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias", false},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Role::UpBias, "blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias", false},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Role::DownBias, "blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias", false},
    {Role::Router, "blk.{}.ffn_gate_inp.weight", "model.layers.{}.block_sparse_moe.gate.weight",
     true, true},
    {Role::Gate, "blk.{}.ffn_gate_exps.weight",
     "model.layers.{}.block_sparse_moe.experts.{}.w1.weight", true, true},
    {Role::Up, "blk.{}.ffn_up_exps.weight", "model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
     true, true},
    {Role::Down, "blk.{}.ffn_down_exps.weight",
     "model.layers.{}.block_sparse_moe.experts.{}.w2.weight", true, true},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "llama");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    return readHuggingFaceConfig(metadata, "llama");
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    writeBiases(model, out);
}

} // namespace

std::span<const RoleName> llamaNames() {
    return kNames;
}

const Architecture kLlama{.name = "llama",
                          .gguf = "llama",
                          .huggingFaceClass = "LlamaForCausalLM",
                          .ggufRope = RopeStyle::Interleaved,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = kNames,
                          .writeHuggingFace = writeHuggingFace};

} // namespace nibble
