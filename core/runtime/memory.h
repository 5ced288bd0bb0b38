#pragma once

#include "core/runtime/runner.h"

/// Sizes that stages, the runner and predictions share.
namespace nibble {

/// KV pages that `sessions` full contexts need.
int32_t pageCount(const RunOptions& options);

/// What placement `index` of the options asks of its backend.
StageOptions stageOptions(const ModelConfig& config, const RunOptions& options, size_t index);

/// Whether a stage keeps a tensor: its layers', the embedding where it embeds (or heads, when
/// tied), norm and head where it heads. RoPE factors are part of the config.
bool stageHolds(const ModelConfig& config, const StageOptions& options, TensorKey key);

/// Bytes that a page has for the states of a layer that is a convolution.
uint64_t statePageBytes(const ModelConfig& config);

/// Bytes of the keys and values (or states) of `pages` pages in plain layout.
uint64_t kvBytes(const ModelConfig& config, const StageOptions& options);

} // namespace nibble
