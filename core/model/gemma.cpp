#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

#include <cmath>

namespace nibble {
namespace {

ModelConfig completed(ModelConfig config) {
    config.activation = Activation::GeluTanh;
    config.embeddingScale = std::sqrt(static_cast<float>(config.width));
    return config;
}

ModelConfig fromGguf(const Metadata& metadata) {
    return completed(readGgufConfig(metadata, "gemma"));
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    // Its configs say "gelu" and mean the approximation.
    ModelConfig config = completed(readHuggingFaceConfig(metadata, "gemma"));
    config.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", true);
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    refuseBiases(model, true);
    out["hidden_activation"] = out["hidden_act"];
    out["attention_bias"] = false;
}

} // namespace

const Architecture kGemma{.name = "gemma",
                          .gguf = "gemma",
                          .huggingFaceClass = "GemmaForCausalLM",
                          .ggufRope = RopeStyle::Halves,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = llamaNames(),
                          .folderNormOffset = 1,
                          .writeHuggingFace = writeHuggingFace};

} // namespace nibble
