#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

/// Converters name Mistral's models "llama" in GGUF, and keep no window there.
ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "llama");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "mistral");
    const int32_t window = ConfigReader{metadata, ""}.countOrNone("sliding_window", INT32_MAX);
    for (LayerConfig& layer : config.perLayer)
        layer.window = window;
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    refuseBiases(model, true);
    writeWindow(model, out);
}

} // namespace

const Architecture kMistral{.name = "mistral",
                            .gguf = "llama",
                            .huggingFaceClass = "MistralForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames(),
                            .writeHuggingFace = writeHuggingFace};

} // namespace nibble
