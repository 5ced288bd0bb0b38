#include "core/base/limits.h"
#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

#include <algorithm>
#include <cmath>

/// LFM2 (Liquid AI, 2025): gated short convolutions, and attention in every few layers.
namespace nibble {
namespace {

constexpr RoleName kNames[] = {
    {Role::TokenEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Role::AttentionNorm, "blk.{}.attn_norm.weight", "model.layers.{}.operator_norm.weight"},
    {Role::Query, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Role::Key, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Role::Value, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Role::QueryNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_layernorm.weight"},
    {Role::KeyNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_layernorm.weight"},
    {Role::AttentionOutput, "blk.{}.attn_output.weight",
     "model.layers.{}.self_attn.out_proj.weight"},
    {Role::ConvolutionIn, "blk.{}.shortconv.in_proj.weight", "model.layers.{}.conv.in_proj.weight"},
    {Role::Convolution, "blk.{}.shortconv.conv.weight", "model.layers.{}.conv.conv.weight"},
    {Role::ConvolutionOut, "blk.{}.shortconv.out_proj.weight",
     "model.layers.{}.conv.out_proj.weight"},
    {Role::FeedForwardNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.ffn_norm.weight"},
    {Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.feed_forward.w1.weight"},
    {Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.feed_forward.w3.weight"},
    {Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.feed_forward.w2.weight"},
    {Role::OutputNorm, "token_embd_norm.weight", "model.embedding_norm.weight"},
    {Role::Output, "output.weight", "lm_head.weight", false},
};

ModelConfig fromGguf(const Metadata& metadata) {
    ModelConfig config = readGgufConfig(metadata, "lfm2");
    config.queryKeyNorm = QueryKeyNorm::Head;
    return config;
}

/// The published configurations name the width before two thirds of it are taken and rounded up.
int32_t innerWidth(const ConfigReader& read) {
    const int32_t said = read.count("intermediate_size", limits::kWidth);
    if (!read.metadata.booleanOr("block_auto_adjust_ff_dim", true))
        return said;
    const int64_t step = read.countOr("block_multiple_of", 256, limits::kWidth);
    const double factor = double(read.positive("block_ffn_dim_multiplier", 1));
    const auto wanted = static_cast<int64_t>(factor * std::floor(2.0 * said / 3));
    return read.checked("intermediate_size", (wanted + step - 1) / step * step, 1, limits::kWidth);
}

ModelConfig fromHuggingFace(const Metadata& published) {
    // Under the names that the first of them were published with, and with its defaults.
    Metadata metadata = published;
    for (const auto& [old, name] : {std::pair{"block_ff_dim", "intermediate_size"},
                                    {"norm_eps", "rms_norm_eps"},
                                    {"theta", "rope_theta"},
                                    {"tie_embedding", "tie_word_embeddings"}})
        if (const auto at = published.entries.find(old); at != published.entries.end())
            metadata.entries[name] = at->second;
    metadata.entries.try_emplace("rms_norm_eps", MetadataValue{.value = 1e-5});
    metadata.entries.try_emplace("rope_theta", MetadataValue{.value = 1e6});
    metadata.entries.try_emplace("tie_word_embeddings", MetadataValue{.value = true});
    const ConfigReader read{metadata, ""};
    ModelConfig config = readHuggingFaceConfig(metadata, "lfm2");
    config.queryKeyNorm = QueryKeyNorm::Head;
    config.feedForward = innerWidth(read);
    config.convolutionTaps = read.countOr("conv_L_cache", 3, limits::kConvolutionTaps);
    if (metadata.booleanOr("conv_bias", false))
        read.refuse("convolutions with a bias");
    const auto* attends = metadata.findIntegers("full_attn_idxs");
    const auto* types = metadata.findStrings("layer_types");
    for (size_t i = 0; i < config.perLayer.size(); ++i) {
        const bool convolves =
            types && types->size() == config.perLayer.size()
                ? (*types)[i] == "conv"
                : attends && std::ranges::find(*attends, int64_t(i)) == attends->end();
        config.perLayer[i].mixer = convolves ? Mixer::Convolution : Mixer::Attention;
    }
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    nlohmann::ordered_json types = nlohmann::ordered_json::array();
    for (const LayerConfig& layer : model.config.perLayer)
        types.push_back(layer.mixer == Mixer::Convolution ? "conv" : "full_attention");
    out["layer_types"] = std::move(types);
    out["conv_L_cache"] = model.config.convolutionTaps;
    out["conv_bias"] = false;
    out["block_auto_adjust_ff_dim"] = false; // the width is the one that results
    out["norm_eps"] = out["rms_norm_eps"];
    out.erase("rms_norm_eps");
}

} // namespace

const Architecture kLfm2{.name = "lfm2",
                         .gguf = "lfm2",
                         .huggingFaceClass = "Lfm2ForCausalLM",
                         .ggufRope = RopeStyle::Halves,
                         .readGguf = fromGguf,
                         .readHuggingFace = fromHuggingFace,
                         .names = kNames,
                         .writeHuggingFace = writeHuggingFace};

} // namespace nibble
