#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

/// Every `period`-th layer attends without positions.
void leaveOut(ModelConfig& config, int32_t period) {
    for (int32_t i = period - 1; i < config.layers; i += period)
        config.perLayer[static_cast<size_t>(i)].positions = LayerConfig::Positions::None;
}

ModelConfig fromGguf(const Metadata& metadata) {
    ModelConfig config = readGgufConfig(metadata, "smollm3");
    leaveOut(config, 4);
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig config = readHuggingFaceConfig(metadata, "smollm3");
    config.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", true);
    const auto* turned = metadata.findIntegers("no_rope_layers");
    if (!turned || turned->size() != config.perLayer.size()) {
        leaveOut(config, read.countOr("no_rope_layer_interval", 4, INT32_MAX));
        return config;
    }
    for (size_t i = 0; i < turned->size(); ++i) // 1: this layer's heads do rotate
        if ((*turned)[i] == 0)
            config.perLayer[i].positions = LayerConfig::Positions::None;
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    writeBiases(model, out);
    nlohmann::ordered_json turned = nlohmann::ordered_json::array();
    for (const LayerConfig& layer : model.config.perLayer)
        turned.push_back(layer.positions == LayerConfig::Positions::None ? 0 : 1);
    out["no_rope_layers"] = std::move(turned);
    out["use_sliding_window"] = false;
    out["pad_token_id"] = nullptr; // which is one beyond small vocabularies where it is not said
}

} // namespace

const Architecture kSmollm3{.name = "smollm3",
                            .gguf = "smollm3",
                            .huggingFaceClass = "SmolLM3ForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames(),
                            .writeHuggingFace = writeHuggingFace};

} // namespace nibble
