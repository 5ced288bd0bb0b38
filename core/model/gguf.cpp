#include "core/files/gguf_format.h"
#include "core/model/model.h"
#include "core/model/names.h"

#include <fmt/format.h>

#include <cmath>

namespace nibble {
namespace {

/// Writes keys of one family.
struct Writer {
    Metadata& metadata;
    std::string prefix;

    void integer(const char* key, int64_t value) const {
        metadata.entries[prefix + key] = {.value = value, .storedType = gguf::kU32};
    }
    void real(const char* key, double value) const {
        metadata.entries[prefix + key] = {.value = value, .storedType = gguf::kF32};
    }
    void text(const char* key, std::string value) const {
        metadata.entries[prefix + key] = {.value = std::move(value), .storedType = gguf::kString};
    }
};

void putRope(const ModelConfig& c, const Writer& write) {
    if (c.ropeDimensions == 0)
        return;
    write.integer("rope.dimension_count", c.ropeDimensions);
    write.real("rope.freq_base", double(c.rope.base));
    if (c.hasLocalRope())
        write.real("rope.freq_base_swa", double(c.localRope.base));
    if (c.yarn) {
        write.text("rope.scaling.type", "yarn");
        write.real("rope.scaling.factor", c.yarn->factor);
        write.integer("rope.scaling.original_context_length", int64_t(c.yarn->originalContext));
        write.real("rope.scaling.yarn_beta_fast", c.yarn->betaFast);
        write.real("rope.scaling.yarn_beta_slow", c.yarn->betaSlow);
        write.real("rope.scaling.attn_factor",
                   c.yarn->magnitude / (1 + 0.1 * std::log(c.yarn->factor)));
    } else if (!c.longFactors.empty()) {
        write.text("rope.scaling.type", "longrope");
        write.integer("rope.scaling.original_context_length", c.originalContext);
        write.real("rope.scaling.attn_factor", double(c.rope.magnitude));
    } else if (c.rope.scale != 1) {
        write.text("rope.scaling.type", "linear");
        write.real("rope.scaling.factor", 1 / double(c.rope.scale));
    }
}

void putExperts(const ModelConfig& c, const Writer& write) {
    if (c.experts == 0)
        return;
    write.integer("expert_count", c.experts);
    write.integer("expert_used_count", c.expertsUsed);
    write.integer("expert_feed_forward_length", c.expertFeedForward);
    if (c.sharedFeedForward > 0)
        write.integer("expert_shared_feed_forward_length", c.sharedFeedForward);
}

} // namespace

std::string ggufName(const Model& model, TensorKey key) {
    if (const Architecture* architecture = findArchitecture(model.config.architecture))
        for (const RoleName& row : architecture->names)
            if (row.holds(key) && row.gguf)
                return fmt::format(fmt::runtime(row.gguf), key.layer);
    for (const RoleName& row : findArchitecture("llama")->names)
        if (row.role == key.role && row.gguf)
            return fmt::format(fmt::runtime(row.gguf), key.layer);
    return tensorName(key);
}

void putGgufConfig(const Model& model, Metadata& metadata) {
    const ModelConfig& c = model.config;
    const Architecture* architecture = findArchitecture(c.architecture);
    const std::string family = architecture ? architecture->gguf : c.architecture;
    const Writer write{metadata, family + "."};
    metadata.entries["general.architecture"] = {.value = family, .storedType = gguf::kString};
    write.integer("block_count", c.layers);
    write.integer("context_length", c.contextLength);
    write.integer("embedding_length", c.width);
    write.integer("feed_forward_length", c.feedForward);
    write.integer("vocab_size", c.vocabulary);
    write.integer("attention.head_count", c.heads);
    if (c.hasConvolutions()) {
        // Layers without keys and values are what tells convolutions.
        MetadataValue::Integers heads;
        for (const LayerConfig& layer : c.perLayer)
            heads.push_back(layer.mixer == Mixer::Attention ? c.kvHeads : 0);
        metadata.entries[write.prefix + "attention.head_count_kv"] = {
            .value = std::move(heads), .storedType = gguf::kArray, .storedElementType = gguf::kI32};
        write.integer("shortconv.l_cache", c.convolutionTaps);
    } else {
        write.integer("attention.head_count_kv", c.kvHeads);
    }
    write.integer("attention.key_length", c.headSize);
    write.integer("attention.value_length", c.headSize);
    write.real(c.norm == NormKind::Layer ? "attention.layer_norm_epsilon"
                                         : "attention.layer_norm_rms_epsilon",
               double(c.normEpsilon));
    putRope(c, write);
    putExperts(c, write);
    int32_t window = 0;
    MetadataValue::Booleans windowed;
    for (const LayerConfig& layer : c.perLayer) {
        window = std::max(window, layer.window);
        windowed.push_back(layer.window > 0);
    }
    if (window > 0) {
        write.integer("attention.sliding_window", window);
        metadata.entries[write.prefix + "attention.sliding_window_pattern"] = {
            .value = std::move(windowed),
            .storedType = gguf::kArray,
            .storedElementType = gguf::kBool};
    }
    if (c.attentionCap > 0)
        write.real("attn_logit_softcapping", double(c.attentionCap));
    if (c.logitCap > 0)
        write.real("final_logit_softcapping", double(c.logitCap));
    if (c.attentionScale != 0)
        write.real("attention.scale", double(c.attentionScale));
    if (c.embeddingScale != 1)
        write.real("embedding_scale", double(c.embeddingScale));
    if (c.residualScale != 1)
        write.real("residual_scale", double(c.residualScale));
    if (c.logitScale != 1)
        write.real("logit_scale", 1 / double(c.logitScale));
}

std::vector<std::pair<std::string, std::vector<float>>> ggufRopeFactors(const Model& model) {
    const ModelConfig& c = model.config;
    if (!c.longFactors.empty() && !model.find({Role::RopeFactorsLong, -1}))
        return {{"rope_factors_long.weight", c.longFactors},
                {"rope_factors_short.weight", c.rope.factors}};
    if (!c.rope.factors.empty() && !c.yarn && c.longFactors.empty() &&
        !model.find({Role::RopeFactors, -1}))
        return {{"rope_freqs.weight", c.rope.factors}};
    return {};
}

} // namespace nibble
