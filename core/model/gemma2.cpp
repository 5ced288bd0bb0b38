#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

#include <cmath>

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Role::AttentionPostNorm, "blk.{}.post_attention_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight",
     "model.layers.{}.pre_feedforward_layernorm.weight"},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Role::FeedForwardPostNorm, "blk.{}.post_ffw_norm.weight",
     "model.layers.{}.post_feedforward_layernorm.weight"},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

constexpr int32_t k27bLayers = 46;

ModelConfig completed(ModelConfig config) {
    config.activation = Activation::GeluTanh;
    config.postNorms = true;
    config.embeddingScale = std::sqrt(static_cast<float>(config.width));
    return config;
}

/// Every other layer sees a window only.
void alternate(ModelConfig& config, int32_t window) {
    for (size_t i = 0; i < config.perLayer.size(); i += 2)
        config.perLayer[i].window = window;
}

ModelConfig fromGguf(const Metadata& metadata) {
    const ConfigReader read{metadata, "gemma2."};
    ModelConfig config = completed(readGgufConfig(metadata, "gemma2"));
    config.attentionCap = read.positive("attn_logit_softcapping", 50);
    config.logitCap = read.positive("final_logit_softcapping", 30);
    alternate(config, read.countOr("attention.sliding_window", 4096, INT32_MAX));
    // Converters do not say it: the largest one divides by a head's share of the width.
    config.attentionScale = read.positiveOrNone("attention.scale");
    if (config.attentionScale == 0 && config.layers == k27bLayers)
        config.attentionScale =
            1 / std::sqrt(static_cast<float>(config.width) / static_cast<float>(config.heads));
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig config = completed(readHuggingFaceConfig(metadata, "gemma2"));
    config.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", true);
    config.attentionScale = 1 / std::sqrt(read.positive("query_pre_attn_scalar", 256));
    config.attentionCap = read.positiveOrNone("attn_logit_softcapping");
    config.logitCap = read.positiveOrNone("final_logit_softcapping");
    const int32_t window = read.countOrNone("sliding_window", INT32_MAX);
    if (!readLayerTypes(metadata, config, window))
        alternate(config, window);
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    out["hidden_activation"] = out["hidden_act"];
    out["attention_bias"] = false;
    out["attn_logit_softcapping"] = capOrNull(model.config.attentionCap);
    out["final_logit_softcapping"] = capOrNull(model.config.logitCap);
    writeQueryScalar(model, out);
    writeLayerTypes(model, out);
}

} // namespace

const Architecture kGemma2{.name = "gemma2",
                           .gguf = "gemma2",
                           .huggingFaceClass = "Gemma2ForCausalLM",
                           .ggufRope = RopeStyle::Halves,
                           .readGguf = fromGguf,
                           .readHuggingFace = fromHuggingFace,
                           .names = kNames,
                           .folderNormOffset = 1,
                           .writeHuggingFace = writeHuggingFace};

} // namespace nibble
