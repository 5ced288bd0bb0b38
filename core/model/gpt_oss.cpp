#include "core/model/config_reader.h"

#include <fmt/format.h>

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
    {Role::AttentionOutputBias, "blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias"},
    {Role::AttentionSinks, "blk.{}.attn_sinks.weight", "model.layers.{}.self_attn.sinks"},
    {Role::FeedForwardNorm, "blk.{}.post_attention_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::Router, "blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.router.weight", true, true},
    {Role::RouterBias, "blk.{}.ffn_gate_inp.bias", "model.layers.{}.mlp.router.bias", true, true},
    {Role::Gate, "blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", true,
     true},
    {Role::GateBias, "blk.{}.ffn_gate_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias",
     true, true},
    {Role::Up, "blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj", true, true},
    {Role::UpBias, "blk.{}.ffn_up_exps.bias", "model.layers.{}.mlp.experts.gate_up_proj_bias", true,
     true},
    {Role::Down, "blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.down_proj", true,
     true},
    {Role::DownBias, "blk.{}.ffn_down_exps.bias", "model.layers.{}.mlp.experts.down_proj_bias",
     true, true},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig completed(ModelConfig config) {
    config.activation = Activation::ClampedSilu;
    config.expertGate = ExpertGate::SoftmaxOfChosen;
    return config;
}

/// Every other layer sees a window only.
void alternate(ModelConfig& config, int32_t window) {
    for (size_t i = 0; i < config.perLayer.size(); i += 2)
        config.perLayer[i].window = window;
}

ModelConfig fromGguf(const Metadata& metadata) {
    const ConfigReader read{metadata, "gpt-oss."};
    ModelConfig config = readGgufConfig(metadata, "gpt-oss");
    alternate(config, read.countOrNone("attention.sliding_window", INT32_MAX));
    if (config.yarn) { // its bounds are not rounded, which GGUF files cannot say
        config.yarn->wholePairs = false;
        applyYarn(config, YarnSettings(*config.yarn));
    }
    return completed(config);
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig config = readHuggingFaceConfig(metadata, "gpt-oss");
    config.normEpsilon = read.positive("rms_norm_eps", 1e-5);
    for (const auto& [key, known] : {std::pair{"swiglu_limit", 7.0f}, {"swiglu_alpha", 1.702f}})
        if (const float found = read.positive(key, double(known)); found != known)
            read.refuse(fmt::format("a \"{}\" of {} ({} is known)", key, found, known));
    readExperts(read, config, "num_local_experts");
    config.expertFeedForward = config.feedForward;
    const int32_t window = read.countOrNone("sliding_window", INT32_MAX);
    if (!readLayerTypes(metadata, config, window))
        alternate(config, window);
    return completed(config);
}

} // namespace

const Architecture kGptOss{.name = "gpt-oss",
                           .gguf = "gpt-oss",
                           .huggingFaceClass = "GptOssForCausalLM",
                           .ggufRope = RopeStyle::Halves,
                           .readGguf = fromGguf,
                           .readHuggingFace = fromHuggingFace,
                           .names = kNames,
                           .folderStacksExperts = true};

} // namespace nibble
