#include "core/model/architectures.h"

#include <fmt/format.h>

namespace nibble {
namespace {

/// Converters name Mistral's models "llama" in GGUF, so that only the folder form has its own name.
ModelConfig fromGguf(const Metadata& metadata) {
    ModelConfig config = readGgufConfig(metadata, "mistral");
    config.ropeStyle = RopeStyle::Interleaved;
    return config;
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    ModelConfig config = readHuggingFaceConfig(metadata, "mistral");
    const int64_t window = metadata.integerOr("sliding_window", 0);
    if (window > 0 && window < config.contextLength)
        throw UnsupportedModel(fmt::format("\"{}\" attends to a sliding window of {} tokens, which "
                                           "cannot be run yet; it can be inspected.",
                                           printable(metadata.source), window));
    return config;
}

} // namespace

const Architecture kMistral{"mistral", "MistralForCausalLM", fromGguf, fromHuggingFace,
                            llamaNames()};

} // namespace nibble
