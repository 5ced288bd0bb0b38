#include "core/model/config_reader.h"

namespace nibble {
namespace {

/// GGUF files call it "llama", too.
ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "llama");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "mixtral");
    readExperts(ConfigReader{metadata, ""}, config, "num_local_experts");
    config.expertFeedForward = config.feedForward;
    return config;
}

} // namespace

const Architecture kMixtral{.name = "mixtral",
                            .gguf = "llama",
                            .huggingFaceClass = "MixtralForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames()};

} // namespace nibble
