#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/model/config_writer.h"
#include "core/model/model.h"

#include <fmt/format.h>

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

const char* activationName(Activation activation) {
    return activation == Activation::GeluTanh ? "gelu_pytorch_tanh"
           : activation == Activation::Gelu   ? "gelu"
                                              : "silu";
}

/// The family whose folders hold such a model: GGUF files call three of them "llama".
const Architecture& folderFamily(const Model& model, const Architecture& architecture) {
    const ModelConfig& c = model.config;
    if (&architecture != &kLlama)
        return architecture;
    if (c.experts > 0)
        return kMixtral;
    const auto windowed = [](const LayerConfig& layer) { return layer.window > 0; };
    return std::ranges::any_of(c.perLayer, windowed) ? kMistral : kLlama;
}

Json configOf(const Model& model, const Architecture& family) {
    const ModelConfig& c = model.config;
    Json out = {{"architectures", {family.huggingFaceClass}},
                {"model_type", family.name},
                {"hidden_size", c.width},
                {"intermediate_size", c.feedForward},
                {"num_hidden_layers", c.layers},
                {"num_attention_heads", c.heads},
                {"num_key_value_heads", c.kvHeads},
                // Not all families fall back to hidden_size / num_attention_heads.
                {"head_dim", c.headSize},
                {"vocab_size", c.vocabulary},
                {"max_position_embeddings", c.contextLength},
                {"hidden_act", activationName(c.activation)},
                {"rms_norm_eps", shortest(c.normEpsilon)}};
    writeRope(model, out);
    out["tie_word_embeddings"] = c.tiedEmbedding;
    out["initializer_range"] = 0.02;
    out["use_cache"] = true;
    if (model.tokenizer) {
        const Tokenizer::Info& info = model.tokenizer->info();
        if (info.bos >= 0)
            out["bos_token_id"] = info.bos;
        if (info.eos >= 0)
            out["eos_token_id"] = info.eos;
    }
    family.writeHuggingFace(model, out);
    return out;
}

/// Refuses what would be another model when it is read again.
void requireSaid(const Model& model, const Architecture& family, const Json& config) {
    Metadata metadata;
    metadata.source = "config.json";
    putJson(metadata, "", nlohmann::json::parse(config.dump()));
    ModelConfig said;
    try {
        said = family.readHuggingFace(metadata);
    } catch (const Error& error) {
        fail(ErrorKind::Usage, "No config.json can be made of this model: {}", error.what());
    }
    if (const std::string what = configDifference(model.config, said); !what.empty())
        cannotSay(model, what);
}

} // namespace

std::string huggingFaceName(const Model& model, TensorKey key) {
    if (const Architecture* architecture = findArchitecture(model.config.architecture))
        for (const RoleName& row : architecture->names)
            if (row.holds(key) && row.huggingFace)
                return fmt::format(fmt::runtime(row.huggingFace), key.layer, key.expert);
    return {};
}

std::string huggingFaceConfig(const Model& model) {
    const Architecture* architecture = findArchitecture(model.config.architecture);
    if (!architecture)
        fail(ErrorKind::Usage, "Folders of the architecture \"{}\" cannot be written.",
             printable(model.config.architecture));
    if (model.checkpoint->container != Checkpoint::Container::Safetensors) {
        const Architecture& family = folderFamily(model, *architecture);
        if (!family.writeHuggingFace)
            fail(ErrorKind::Usage,
                 "No config.json of the family \"{}\" can be made from a GGUF file yet; start from "
                 "the model's folder, or export gguf.",
                 family.name);
        const Json config = configOf(model, family);
        requireSaid(model, family, config);
        return config.dump(2);
    }
    std::error_code ignored;
    const auto& path = model.checkpoint->path;
    const auto folder = std::filesystem::is_directory(path, ignored) ? path : path.parent_path();
    const auto parsed = readJson((folder / "config.json").string(), limits::kJsonDepth);
    Json config = Json::parse(parsed.dump());
    for (const char* key : {"quantization_config", "compression_config"})
        config.erase(key);
    return config.dump(2);
}

} // namespace nibble
