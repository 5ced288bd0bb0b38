#pragma once

#include "core/serve/engine.h"

#include <optional>

namespace nibble {

struct BenchOptions {
    int32_t prompt = 512;   ///< tokens of the prompt
    int32_t generate = 128; ///< tokens generated after it
    std::vector<int32_t> batches{1};
};

/// Tokens per second of `sequences` answers written side by side, together.
struct BatchSpeed {
    int32_t sequences = 0;
    double generateTps = 0;
};

/// How fast a model runs, and how far that is from what the memory allows.
struct BenchReport {
    double promptTps = 0, generateTps = 0;
    /// Bytes per second that the running device reads from its memory; nothing where unknown.
    std::optional<double> readBandwidth;
    /// Weight bytes read for one token.
    uint64_t bytesPerToken = 0;
    double barriersPerLayer = 0;
    /// One generated token step by step on the device's clock, and what of a token's time is not
    /// its steps'; empty where the device has no clock.
    std::vector<StepTime> steps;
    std::optional<double> millisecondsBetweenTokens;
    uint64_t peakBytes = 0; ///< of a GPU its own memory, else the process's largest resident size
    MemoryUse memory;
    std::vector<BatchSpeed> batches;
    DeviceInfo device;     ///< the first layers'
    std::string placement; ///< every device in words, as placementText()
    std::vector<PathReport> paths;
    double loadSeconds = 0;

    /// Part of the read bandwidth that generating one token at a time uses.
    std::optional<double> bandwidthFraction() const;
};

/// Loads `model` under `recipe` and times it on random tokens, one session for the prompt and the
/// first figures, then each batch. Context and sessions are made as large as needed.
BenchReport runBench(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                     const EngineOptions& options, const BenchOptions& bench,
                     const Progress& progress = {});

} // namespace nibble
