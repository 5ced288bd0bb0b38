#include "core/model/config_reader.h"

namespace nibble {
namespace {

ModelConfig fromGguf(const Metadata& metadata) {
    const ConfigReader read{metadata, "granite."};
    ModelConfig config = readGgufConfig(metadata, "granite");
    config.embeddingScale = read.positive("embedding_scale", 1);
    config.residualScale = read.positive("residual_scale", 1);
    config.attentionScale = read.positiveOrNone("attention.scale");
    config.logitScale = 1 / read.positive("logit_scale", 1);
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    const ConfigReader read{metadata, ""};
    ModelConfig config = readHuggingFaceConfig(metadata, "granite");
    config.embeddingScale = read.positive("embedding_multiplier", 1);
    config.residualScale = read.positive("residual_multiplier", 1);
    config.attentionScale = read.positive("attention_multiplier", 1);
    config.logitScale = 1 / read.positive("logits_scaling", 1);
    return config;
}

} // namespace

const Architecture kGranite{.name = "granite",
                            .gguf = "granite",
                            .huggingFaceClass = "GraniteForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames()};

} // namespace nibble
