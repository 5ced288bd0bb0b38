#include "core/base/limits.h"
#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Role::QueryBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias"},
    {Role::KeyBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias"},
    {Role::ValueBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Role::Router, "blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.gate.weight", true, true},
    {Role::Gate, "blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.{}.gate_proj.weight",
     true, true},
    {Role::Up, "blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.{}.up_proj.weight", true,
     true},
    {Role::Down, "blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.{}.down_proj.weight",
     true, true},
    {Role::SharedRouter, "blk.{}.ffn_gate_inp_shexp.weight",
     "model.layers.{}.mlp.shared_expert_gate.weight", true, true},
    {Role::SharedGate, "blk.{}.ffn_gate_shexp.weight",
     "model.layers.{}.mlp.shared_expert.gate_proj.weight", true, true},
    {Role::SharedUp, "blk.{}.ffn_up_shexp.weight",
     "model.layers.{}.mlp.shared_expert.up_proj.weight", true, true},
    {Role::SharedDown, "blk.{}.ffn_down_shexp.weight",
     "model.layers.{}.mlp.shared_expert.down_proj.weight", true, true},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig fromGguf(const Metadata& metadata) {
    const ConfigReader read{metadata, "qwen2moe."};
    ModelConfig config = readGgufConfig(metadata, "qwen2moe");
    config.sharedFeedForward =
        read.countOr("expert_shared_feed_forward_length", config.feedForward, limits::kWidth);
    config.normsExpertWeights = false;
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig config = readHuggingFaceConfig(metadata, "qwen2moe");
    readExperts(read, config, "num_experts");
    config.expertFeedForward = read.count("moe_intermediate_size", limits::kWidth);
    config.sharedFeedForward = read.count("shared_expert_intermediate_size", limits::kWidth);
    config.normsExpertWeights = metadata.booleanOr("norm_topk_prob", false);
    readUpperWindows(read, config);
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    out["model_type"] = "qwen2_moe";
    writeUpperWindows(model, out);
    writeQwenExperts(model, out);
    out["shared_expert_intermediate_size"] = model.config.sharedFeedForward;
}

} // namespace

const Architecture kQwen2Moe{.name = "qwen2moe",
                             .gguf = "qwen2moe",
                             .huggingFaceClass = "Qwen2MoeForCausalLM",
                             .ggufRope = RopeStyle::Halves,
                             .readGguf = fromGguf,
                             .readHuggingFace = fromHuggingFace,
                             .names = kNames,
                             .writeHuggingFace = writeHuggingFace};

} // namespace nibble
