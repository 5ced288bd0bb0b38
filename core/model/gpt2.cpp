#include "core/base/limits.h"
#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "transformer.wte.weight"},
    {Role::PositionEmbedding, "position_embd.weight", "transformer.wpe.weight"},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "transformer.h.{}.ln_1.weight"},
    {Role::AttentionNormBias, "blk.{}.attn_norm.bias", "transformer.h.{}.ln_1.bias"},
    {Role::Query, "blk.{}.attn_qkv.weight", "transformer.h.{}.attn.c_attn.weight"},
    {Role::Key, "blk.{}.attn_qkv.weight", "transformer.h.{}.attn.c_attn.weight"},
    {Role::Value, "blk.{}.attn_qkv.weight", "transformer.h.{}.attn.c_attn.weight"},
    {Role::QueryBias, "blk.{}.attn_qkv.bias", "transformer.h.{}.attn.c_attn.bias"},
    {Role::KeyBias, "blk.{}.attn_qkv.bias", "transformer.h.{}.attn.c_attn.bias"},
    {Role::ValueBias, "blk.{}.attn_qkv.bias", "transformer.h.{}.attn.c_attn.bias"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "transformer.h.{}.attn.c_proj.weight"},
    {Role::AttentionOutputBias, "blk.{}.attn_output.bias", "transformer.h.{}.attn.c_proj.bias"},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight", "transformer.h.{}.ln_2.weight"},
    {Role::FeedForwardNormBias, "blk.{}.ffn_norm.bias", "transformer.h.{}.ln_2.bias"},
    {Role::Up, "blk.{}.ffn_up.weight", "transformer.h.{}.mlp.c_fc.weight"},
    {Role::UpBias, "blk.{}.ffn_up.bias", "transformer.h.{}.mlp.c_fc.bias"},
    {Role::Down, "blk.{}.ffn_down.weight", "transformer.h.{}.mlp.c_proj.weight"},
    {Role::DownBias, "blk.{}.ffn_down.bias", "transformer.h.{}.mlp.c_proj.bias"},
    {Role::OutputNorm, "output_norm.weight", "transformer.ln_f.weight"},
    {Role::OutputNormBias, "output_norm.bias", "transformer.ln_f.bias"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig completed(ModelConfig config) {
    config.norm = NormKind::Layer;
    config.gated = false;
    config.ropeDimensions = 0;
    return config;
}

ModelConfig fromGguf(const Metadata& metadata) {
    ModelConfig config = readGgufConfig(metadata, "gpt2");
    config.activation = Activation::GeluTanh;
    return completed(config);
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig c;
    c.architecture = "gpt2";
    c.layers = read.count("n_layer", limits::kLayers);
    c.width = read.count("n_embd", limits::kWidth);
    c.heads = c.kvHeads = read.count("n_head", limits::kWidth);
    c.headSize = c.width / c.heads;
    c.feedForward = read.countOr("n_inner", 4 * int64_t(c.width), limits::kWidth);
    c.vocabulary = read.count("vocab_size", int64_t(limits::kVocabulary));
    c.contextLength = read.countOr("n_positions", 1024, INT32_MAX);
    c.normEpsilon = read.positive("layer_norm_epsilon", 1e-5);
    c.activation = read.activation(Activation::GeluTanh);
    c.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", true);
    c.perLayer.resize(static_cast<size_t>(c.layers));
    return completed(c);
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    const ModelConfig& c = model.config;
    for (const char* key :
         {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "head_dim", "max_position_embeddings", "hidden_act",
          "rms_norm_eps", "rope_theta", "rope_scaling", "partial_rotary_factor"})
        out.erase(key);
    out["n_layer"] = c.layers;
    out["n_embd"] = c.width;
    out["n_head"] = c.heads;
    out["n_inner"] = c.feedForward;
    out["n_positions"] = out["n_ctx"] = c.contextLength;
    out["activation_function"] = "gelu_new";
    out["layer_norm_epsilon"] = shortest(c.normEpsilon);
}

} // namespace

const Architecture kGpt2{.name = "gpt2",
                         .gguf = "gpt2",
                         .huggingFaceClass = "GPT2LMHeadModel",
                         .ggufRope = RopeStyle::Halves,
                         .readGguf = fromGguf,
                         .readHuggingFace = fromHuggingFace,
                         .names = kNames,
                         .optionalPrefix = "transformer.",
                         .folderTransposes = true,
                         .writeHuggingFace = writeHuggingFace};

} // namespace nibble
