#include "core/model/config_reader.h"

namespace nibble {
namespace {

ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "qwen2");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "qwen2");
    readUpperWindows(ConfigReader{metadata, ""}, config);
    return config;
}

} // namespace

const Architecture kQwen2{.name = "qwen2",
                          .gguf = "qwen2",
                          .huggingFaceClass = "Qwen2ForCausalLM",
                          .ggufRope = RopeStyle::Halves,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = llamaNames()};

} // namespace nibble
