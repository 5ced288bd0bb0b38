#pragma once

#include "core/runtime/runner.h"

/// Sizes that stages, the runner and predictions share.
namespace nibble {

/// KV pages that `sessions` full contexts need.
int32_t pageCount(const RunOptions& options);

/// A stage for each placement, and one for the experts that run apart.
size_t stageCount(const RunOptions& options);
/// The backend of stage `index`.
Backend& stageBackend(const RunOptions& options, size_t index);
/// What stage `index` asks of its backend.
StageOptions stageOptions(const ModelConfig& config, const RunOptions& options, size_t index);

/// The config with the feed-forward parts alone that a stage holds: of others the widths are 0.
ModelConfig heldConfig(ModelConfig config, const StageOptions& options);

/// Whether the tensor is what a budget for experts counts.
inline bool isExpertMatrix(TensorKey key) {
    return key.expert >= 0 && isMatrix(key.role);
}

/// Whether a stage keeps a tensor: that of its parts of layers, the embedding where it embeds (or
/// heads, when tied), norm and head where it heads. RoPE factors are part of the config.
bool stageHolds(const ModelConfig& config, const StageOptions& options, TensorKey key);

/// Bytes that a page has for the states of a layer that is a convolution.
uint64_t statePageBytes(const ModelConfig& config);

/// Bytes of the keys and values (or states) of a stage's pages in plain layout.
uint64_t kvBytes(const ModelConfig& config, const StageOptions& options);

} // namespace nibble
