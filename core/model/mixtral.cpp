#include "core/model/config_reader.h"
#include "core/model/config_writer.h"

namespace nibble {
namespace {

/// GGUF files call it "llama", too.
ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "llama");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "mixtral");
    const ConfigReader read{metadata, ""};
    readExperts(read, config, "num_local_experts");
    const int32_t window = read.countOrNone("sliding_window", INT32_MAX);
    for (LayerConfig& layer : config.perLayer)
        layer.window = window;
    config.expertFeedForward = config.feedForward;
    return config;
}

void writeHuggingFace(const Model& model, nlohmann::ordered_json& out) {
    refuseBiases(model, true);
    writeWindow(model, out);
    out["intermediate_size"] = model.config.expertFeedForward;
    out["num_local_experts"] = model.config.experts;
    out["num_experts_per_tok"] = model.config.expertsUsed;
    out["output_router_logits"] = false;
    out["router_aux_loss_coef"] = 0.02;
}

} // namespace

const Architecture kMixtral{.name = "mixtral",
                            .gguf = "llama",
                            .huggingFaceClass = "MixtralForCausalLM",
                            .ggufRope = RopeStyle::Interleaved,
                            .readGguf = fromGguf,
                            .readHuggingFace = fromHuggingFace,
                            .names = llamaNames(),
                            .writeHuggingFace = writeHuggingFace};

} // namespace nibble
