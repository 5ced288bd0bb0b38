#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

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

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    refuseBiases(model, false);
    writeUpperWindows(model, out);
}

} // namespace

const Architecture kQwen2{.name = "qwen2",
                          .gguf = "qwen2",
                          .huggingFaceClass = "Qwen2ForCausalLM",
                          .ggufRope = RopeStyle::Halves,
                          .readGguf = fromGguf,
                          .readHuggingFace = fromHuggingFace,
                          .names = llamaNames(),
                          .writeHuggingFace = writeHuggingFace};

} // namespace nibble
