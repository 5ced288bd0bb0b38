#include "core/model/config_reader.h"

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

} // namespace

const Architecture kSmollm3{.name = "smollm3",
                            .gguf = "smollm3",
                            .huggingFaceClass = "SmolLM3ForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames()};

} // namespace nibble
