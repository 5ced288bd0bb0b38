#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/model/architectures.h"
#include "core/model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

/// The "rope_scaling" whose factors these are. GGUF files keep the factors alone, so the published
/// settings are tried: Llama 3.1 and 3.2.
Json ropeScaling(const ModelConfig& config) {
    if (config.rope.factors.empty()) {
        if (config.rope.scale == 1)
            return nullptr;
        return {{"rope_type", "linear"}, {"factor", 1 / double(config.rope.scale)}};
    }
    for (const double factor : {8.0, 32.0, 16.0, 4.0})
        for (const double context : {8192.0, 4096.0, 16384.0, 32768.0}) {
            const auto factors = llama3RopeFactors(config, factor, 1, 4, context);
            const bool same =
                std::ranges::equal(factors, config.rope.factors,
                                   [](float a, float b) { return std::fabs(a - b) <= 1e-4f * b; });
            if (same)
                return {{"rope_type", "llama3"},
                        {"factor", factor},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", int64_t(context)}};
        }
    fail(ErrorKind::Usage,
         "The rotary factors of this model are not those of a published setting, so no config.json "
         "can say them; export gguf.");
}

Json configOf(const Model& model, const Architecture& architecture) {
    const ModelConfig& c = model.config;
    Json out = {{"architectures", {architecture.huggingFaceClass}},
                {"model_type", architecture.name},
                {"hidden_size", c.width},
                {"intermediate_size", c.feedForward},
                {"num_hidden_layers", c.layers},
                {"num_attention_heads", c.heads},
                {"num_key_value_heads", c.kvHeads}};
    if (c.headSize * c.heads != c.width)
        out["head_dim"] = c.headSize;
    out["vocab_size"] = c.vocabulary;
    out["max_position_embeddings"] = c.contextLength;
    out["hidden_act"] = "silu";
    // The shortest decimals that are these floats.
    out["rms_norm_eps"] = std::stod(fmt::format("{}", c.normEpsilon));
    out["rope_theta"] = std::stod(fmt::format("{}", c.rope.base));
    out["rope_scaling"] = ropeScaling(c);
    out["tie_word_embeddings"] = c.tiedEmbedding;
    if (architecture.name == std::string_view("llama")) {
        out["attention_bias"] = model.find({Role::QueryBias, 0}) != nullptr;
        out["mlp_bias"] = false;
    }
    out["initializer_range"] = 0.02;
    out["use_cache"] = true;
    if (model.tokenizer) {
        const Tokenizer::Info& info = model.tokenizer->info();
        if (info.bos >= 0)
            out["bos_token_id"] = info.bos;
        if (info.eos >= 0)
            out["eos_token_id"] = info.eos;
    }
    return out;
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
        // Of these all that config.json has to say is known from a GGUF file.
        static constexpr std::string_view kSaid[] = {"llama", "qwen2", "qwen3", "olmo2"};
        if (model.config.experts > 0 ||
            std::ranges::find(kSaid, architecture->name) == std::end(kSaid))
            fail(ErrorKind::Usage,
                 "No config.json of the family \"{}\" can be made from a GGUF file yet; start from "
                 "the model's folder, or export gguf.",
                 architecture->name);
        return configOf(model, *architecture).dump(2);
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
