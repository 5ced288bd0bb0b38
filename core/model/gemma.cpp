#include "core/model/config_reader.h"

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

} // namespace

const Architecture kGemma{.name = "gemma",
                          .gguf = "gemma",
                          .huggingFaceClass = "GemmaForCausalLM",
                          .ggufRope = RopeStyle::Halves,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = llamaNames(),
                          .folderNormOffset = 1};

} // namespace nibble
