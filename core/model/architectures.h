#pragma once

#include "core/base/error.h"
#include "core/model/model.h"

/// What the families' own files share. A family is one file that defines an Architecture, and one
/// row in architectures().
namespace nibble {

/// Thrown while a config is read, when the model needs something that the forward pass does not
/// have: the model then opens for inspection only.
class UnsupportedModel : public Error {
public:
    explicit UnsupportedModel(const std::string& sentence) : Error(ErrorKind::BadInput, sentence) {}
};

/// The tensor names that the llama family shares ("blk.{}.attn_q.weight",
/// "model.layers.{}.self_attn.q_proj.weight"), with all its optional ones.
std::span<const RoleName> llamaNames();

/// The config of a llama-like GGUF file, from keys with the prefix `name` ("llama.block_count").
/// Error{BadInput} names a missing key, UnsupportedModel what cannot run.
ModelConfig readGgufConfig(const Metadata& metadata, const char* name);
/// The config of a llama-like config.json.
ModelConfig readHuggingFaceConfig(const Metadata& metadata, const char* name);

/// Divisors of the rotary frequencies of Llama 3.1's "llama3" rope scaling, one for each pair.
std::vector<float> llama3RopeFactors(const ModelConfig& config, double factor, double lowFactor,
                                     double highFactor, double originalContext);

/// config.json's "layer_types", where it is given: windows of `window` tokens for layers that are
/// "sliding_attention", none for the others. False where it is not.
bool readLayerTypes(const Metadata& metadata, ModelConfig& config, int32_t window);

extern const Architecture kLlama, kMistral, kMixtral, kQwen2, kQwen2Moe, kQwen3, kQwen3Moe, kGemma,
    kGemma2, kGemma3, kPhi3, kGranite, kOlmo2, kSmollm3, kGpt2, kGptOss, kLfm2;

} // namespace nibble
