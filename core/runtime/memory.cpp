#include "core/runtime/memory.h"

#include <algorithm>

namespace nibble {

int32_t pageCount(const RunOptions& options) {
    return options.sessions * ((options.context + kPageTokens - 1) / kPageTokens);
}

StageOptions stageOptions(const ModelConfig& config, const RunOptions& options, size_t index) {
    StageOptions stage;
    stage.layers = options.placement[index].layers;
    stage.embeds = stage.layers.begin == 0;
    stage.heads = stage.layers.end == config.layers;
    stage.kFormat = options.kFormat;
    stage.vFormat = options.vFormat;
    stage.pages = pageCount(options);
    stage.maxRows = options.maxRows;
    return stage;
}

bool stageHolds(const ModelConfig& config, const StageOptions& options, TensorKey key) {
    switch (key.role) {
    case Role::TokenEmbedding:
        return options.embeds || (options.heads && config.tiedEmbedding);
    case Role::PositionEmbedding:
        return options.embeds;
    case Role::OutputNorm:
    case Role::OutputNormBias:
    case Role::Output:
        return options.heads;
    case Role::RopeFactors:
    case Role::RopeFactorsLong:
    case Role::RopeFactorsShort:
        return false;
    default:
        return key.layer >= options.layers.begin && key.layer < options.layers.end;
    }
}

uint64_t statePageBytes(const ModelConfig& config) {
    return uint64_t(stateSlots(config)) * uint64_t(config.width) * sizeof(float);
}

uint64_t kvBytes(const ModelConfig& config, const StageOptions& options) {
    const double page = double(config.kvWidth()) * kPageTokens *
                        (bitsPerValue(options.kFormat) + bitsPerValue(options.vFormat)) / 8;
    uint64_t bytes = 0;
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        bytes += config.layer(layer).mixer == Mixer::Convolution ? statePageBytes(config)
                                                                 : static_cast<uint64_t>(page);
    return bytes * uint64_t(options.pages);
}

MemoryUse Backend::predict(const ModelConfig& config, const StageOptions& options) const {
    const auto row =
        uint64_t(2 * config.width + 2 * config.queryWidth() + 2 * config.kvWidth() +
                 2 * config.widestFeedForward() + (options.heads ? config.vocabulary : 0));
    return {.weights = 0,
            .kv = kvBytes(config, options),
            .scratch = row * sizeof(float) * uint64_t(options.maxRows)};
}

std::vector<MemoryUse> predictMemory(const Model& model, const RunOptions& options,
                                     const std::function<uint64_t(TensorKey)>& weightBytes) {
    std::vector<MemoryUse> uses;
    for (size_t i = 0; i < options.placement.size(); ++i) {
        const StageOptions stage = stageOptions(model.config, options, i);
        MemoryUse use = options.placement[i].backend->predict(model.config, stage);
        for (const TensorKey key : model.keys())
            if (stageHolds(model.config, stage, key))
                use.weights += weightBytes(key);
        uses.push_back(use);
    }
    return uses;
}

} // namespace nibble
