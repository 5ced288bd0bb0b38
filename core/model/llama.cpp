#include "core/model/architectures.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight", true},
    {Role::RopeFactors, "rope_freqs.weight", nullptr, false},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight",
     true},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", true},
    {Role::QueryBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", false},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", true},
    {Role::KeyBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", false},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", true},
    {Role::ValueBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", false},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight",
     true},
    {Role::AttentionOutputBias, "blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias",
     false},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight", true},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", true},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", true},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", true},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight", true},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig fromGguf(const Metadata& metadata) {
    // GGUF's converter reorders the rows of q and k of this family, so that neighbours rotate.
    ModelConfig config = readGgufConfig(metadata, "llama");
    config.ropeStyle = RopeStyle::Interleaved;
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    return readHuggingFaceConfig(metadata, "llama");
}

} // namespace

std::span<const RoleName> llamaNames() {
    return kNames;
}

const Architecture kLlama{"llama", "LlamaForCausalLM", fromGguf, fromHuggingFace, kNames};

} // namespace nibble
