#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::RopeFactorsLong, "rope_factors_long.weight", nullptr, false},
    {Role::RopeFactorsShort, "rope_factors_short.weight", nullptr, false},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Role::Query, "blk.{}.attn_qkv.weight", "model.layers.{}.self_attn.qkv_proj.weight"},
    {Role::Key, "blk.{}.attn_qkv.weight", "model.layers.{}.self_attn.qkv_proj.weight"},
    {Role::Value, "blk.{}.attn_qkv.weight", "model.layers.{}.self_attn.qkv_proj.weight"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Role::Gate, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.gate_up_proj.weight"},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.gate_up_proj.weight"},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Role::OutputNorm, "output_norm.weight", "model.norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig fromGguf(const Metadata& metadata) {
    ModelConfig config = readGgufConfig(metadata, "phi3");
    const int32_t window =
        ConfigReader{metadata, "phi3."}.countOrNone("attention.sliding_window", INT32_MAX);
    for (LayerConfig& layer : config.perLayer)
        layer.window = window;
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "phi3");
    const int32_t window = ConfigReader{metadata, ""}.countOrNone("sliding_window", INT32_MAX);
    for (LayerConfig& layer : config.perLayer)
        layer.window = window;
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    writeWindow(model, out);
    out["attention_dropout"] = 0.0;
    out["pad_token_id"] = nullptr; // which is one beyond small vocabularies where it is not said
}

} // namespace

const Architecture kPhi3{.name = "phi3",
                         .gguf = "phi3",
                         .huggingFaceClass = "Phi3ForCausalLM",
                         .ggufRope = RopeStyle::Halves,
                         .readGguf = fromGguf,
                         .readHuggingFace = fromHuggingFace,
                         .names = kNames,
                         .writeHuggingFace = writeHuggingFace};

} // namespace nibble
