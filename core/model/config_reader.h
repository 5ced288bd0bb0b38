#pragma once

#include "core/model/architectures.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace nibble {

/// Reads numbers of one config and names the key when a number cannot be true.
struct ConfigReader {
    const Metadata& metadata;
    std::string prefix; ///< of every key: "llama." in GGUF, nothing in config.json

    std::string key(const char* name) const { return prefix + name; }
    /// The value, which must lie in [least, most]; Error{BadInput}.
    int32_t checked(const std::string& name, int64_t value, int64_t least, int64_t most) const;
    /// A count from 1 to `most`. UnsupportedModel where it differs from layer to layer.
    int32_t count(const char* name, int64_t most) const;
    int32_t countOr(const char* name, int64_t fallback, int64_t most) const;
    /// The same of a number that is 0 for layers that have none of what is counted, which `has`
    /// then says of each; it is filled where the key holds one number for each layer.
    int32_t countWhereAny(const char* name, int64_t fallback, int64_t most,
                          std::vector<bool>& has) const;
    /// 0 where the key is missing, null or 0.
    int32_t countOrNone(const char* name, int64_t most) const;
    float positive(const char* name, double fallback) const;
    /// 0 where the key is missing, null or 0.
    float positiveOrNone(const char* name) const;
    /// The activation that config.json names; UnsupportedModel for one that is not known.
    Activation activation(Activation fallback) const;
    /// Throws UnsupportedModel: the model "uses `what`, which cannot be run yet".
    [[noreturn]] void refuse(std::string_view what) const;
};

/// A config.json whose settings of rotation stand where transformers had them before version 5,
/// which keeps them in "rope_parameters": of all layers, or of each kind.
Metadata withRopeSettings(const Metadata& metadata);
/// Mixtures of config.json: how many experts (`count` names the key) and how many are used, and
/// which layers have them ("decoder_sparse_step", "mlp_only_layers"; all, where it does not say).
void readExperts(const ConfigReader& read, ModelConfig& config, const char* count);
/// Windows of config.json's upper layers ("use_sliding_window", "max_window_layers"), as the qwen
/// families have them.
void readUpperWindows(const ConfigReader& read, ModelConfig& config);

YarnSettings ggufYarn(const ConfigReader& read);
YarnSettings huggingFaceYarn(const ConfigReader& read, const ModelConfig& config);
/// Puts the divisors and the magnitude into config.rope.
void applyYarn(ModelConfig& config, const YarnSettings& yarn);

/// LongRoPE (Ding et al. 2024) of config.json: factors of short and of long contexts.
void readLongRope(const ConfigReader& read, ModelConfig& config);

} // namespace nibble
