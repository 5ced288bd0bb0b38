#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Role::QueryNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"},
    {Role::KeyNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Role::AttentionPostNorm, "blk.{}.post_attention_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Role::FeedForwardPostNorm, "blk.{}.post_ffw_norm.weight",
     "model.layers.{}.post_feedforward_layernorm.weight"},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig completed(ModelConfig config) {
    config.postNorms = true;
    config.queryKeyNorm = QueryKeyNorm::Full;
    return config;
}

ModelConfig fromGguf(const Metadata& metadata) {
    return completed(readGgufConfig(metadata, "olmo2"));
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    return completed(readHuggingFaceConfig(metadata, "olmo2"));
}

void writeHuggingFace(const Model&, nlohmann::ordered_json& out) {
    out["attention_bias"] = false;
}

} // namespace

const Architecture kOlmo2{.name = "olmo2",
                          .gguf = "olmo2",
                          .huggingFaceClass = "Olmo2ForCausalLM",
                          .ggufRope = RopeStyle::Halves,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = kNames,
                          .writeHuggingFace = writeHuggingFace};

} // namespace nibble
