#include "core/runtime/memory.h"

#include <algorithm>

namespace nibble {

int32_t pageCount(const RunOptions& options) {
    return options.sessions * ((options.context + kPageTokens - 1) / kPageTokens);
}

bool StageOptions::mixesAny() const {
    for (int32_t layer = layers.begin; layer < layers.end; ++layer)
        if (mixes(layer))
            return true;
    return false;
}

size_t stageCount(const RunOptions& options) {
    return options.placement.size() + (options.expertBackend ? 1 : 0);
}

Backend& stageBackend(const RunOptions& options, size_t index) {
    return index < options.placement.size() ? *options.placement[index].backend
                                            : *options.expertBackend;
}

namespace {

LayerRange layersOf(const RunOptions& options, size_t index) {
    return index == options.placement.size() ? options.expertLayers
                                             : options.placement[index].layers;
}

/// Mixtures of stage `index` whose experts it may load; 0 where its backend does not.
uint64_t loadedMixtures(const ModelConfig& config, const RunOptions& options, size_t index) {
    if (!stageBackend(options, index).loadsExperts())
        return 0;
    const bool ofExperts = index == options.placement.size();
    const LayerRange layers = layersOf(options, index);
    uint64_t count = 0;
    for (int32_t layer = layers.begin; layer < layers.end; ++layer)
        count += config.layer(layer).experts && options.movesExperts(config, layer) == ofExperts;
    return count;
}

/// A stage's share of the budget.
uint64_t shareOfBudget(const ModelConfig& config, const RunOptions& options, size_t index) {
    const uint64_t own = loadedMixtures(config, options, index);
    if (options.expertBudget == 0 || own == 0)
        return 0;
    uint64_t all = 0;
    for (size_t i = 0; i < stageCount(options); ++i)
        all += loadedMixtures(config, options, i);
    const uint64_t share =
        options.expertBudget / all * own + options.expertBudget % all * own / all;
    return std::max<uint64_t>(1, share);
}

} // namespace

StageOptions stageOptions(const ModelConfig& config, const RunOptions& options, size_t index) {
    StageOptions stage;
    const bool ofExperts = index == options.placement.size();
    stage.layers = layersOf(options, index);
    stage.expertBudget = shareOfBudget(config, options, index);
    stage.embeds = !ofExperts && stage.layers.begin == 0;
    stage.heads = !ofExperts && stage.layers.end == config.layers;
    for (int32_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
        const bool apart = options.movesExperts(config, layer);
        stage.parts.push_back(ofExperts ? (apart ? LayerPart::FeedForward : LayerPart::None)
                              : apart   ? LayerPart::Mixer
                                        : LayerPart::Whole);
    }
    stage.kFormat = options.kFormat;
    stage.vFormat = options.vFormat;
    stage.pages = pageCount(options);
    stage.maxRows = options.maxRows;
    return stage;
}

ModelConfig heldConfig(ModelConfig config, const StageOptions& options) {
    bool dense = false, experts = false;
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        if (options.feeds(layer))
            (config.layer(layer).experts ? experts : dense) = true;
    if (!dense)
        config.feedForward = 0;
    if (!experts)
        config.experts = config.expertsUsed = config.expertFeedForward = config.sharedFeedForward =
            0;
    return config;
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
        if (key.layer < options.layers.begin || key.layer >= options.layers.end)
            return false;
        return key.role >= Role::FeedForwardNorm ? options.feeds(key.layer)
                                                 : options.mixes(key.layer);
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
        if (options.mixes(layer))
            bytes += config.layer(layer).mixer == Mixer::Convolution ? statePageBytes(config)
                                                                     : static_cast<uint64_t>(page);
    return bytes * uint64_t(options.pages);
}

MemoryUse Backend::predict(const ModelConfig& whole, const StageOptions& options) const {
    const ModelConfig config = heldConfig(whole, options);
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
    for (size_t i = 0; i < stageCount(options); ++i) {
        const StageOptions stage = stageOptions(model.config, options, i);
        MemoryUse use = stageBackend(options, i).predict(model.config, stage);
        uint64_t experts = 0;
        for (const TensorKey key : model.keys())
            if (stageHolds(model.config, stage, key))
                (isExpertMatrix(key) ? experts : use.weights) += weightBytes(key);
        use.weights += stage.expertBudget > 0 ? std::min(stage.expertBudget, experts) : experts;
        uses.push_back(use);
    }
    return uses;
}

} // namespace nibble
