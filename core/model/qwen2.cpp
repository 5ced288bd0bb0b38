#include "core/model/architectures.h"

#include <fmt/format.h>

namespace nibble {
namespace {

ModelConfig fromGguf(const Metadata& metadata) {
    return readGgufConfig(metadata, "qwen2");
}

ModelConfig fromHuggingFace(const Metadata& metadata) {
    if (metadata.booleanOr("use_sliding_window", false))
        throw UnsupportedModel(fmt::format("\"{}\" uses a sliding attention window, which cannot "
                                           "be run yet; it can be inspected.",
                                           printable(metadata.source)));
    return readHuggingFaceConfig(metadata, "qwen2");
}

} // namespace

const Architecture kQwen2{"qwen2", "Qwen2ForCausalLM", fromGguf, fromHuggingFace, llamaNames()};

} // namespace nibble
