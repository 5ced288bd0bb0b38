#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

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

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    const ModelConfig& c = model.config;
    writeBiases(model, out);
    out["embedding_multiplier"] = shortest(c.embeddingScale);
    out["residual_multiplier"] = shortest(c.residualScale);
    out["attention_multiplier"] = shortest(c.queryScale());
    out["logits_scaling"] = shortest(reciprocalOf(c.logitScale));
}

} // namespace

const Architecture kGranite{.name = "granite",
                            .gguf = "granite",
                            .huggingFaceClass = "GraniteForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames(),
                            .writeHuggingFace = writeHuggingFace};

} // namespace nibble
