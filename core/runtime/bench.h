#pragma once

#include "core/base/progress.h"
#include "core/runtime/runner.h"

namespace nibble {

/// How fast a runner reads and writes.
struct BenchResult {
    double promptTokensPerSecond = 0;
    double generateTokensPerSecond = 0; ///< of all sequences together
    double weightBytesPerToken = 0;     ///< weights that one generating step reads
    int32_t promptTokens = 0, generatedTokens = 0, batch = 0;
};

/// Times a prompt of `prompt` tokens, and `generate` steps of `batch` sequences that each continue
/// from a short past. The runner must have room for `batch` sessions. Error{Cancelled}.
BenchResult benchRunner(Runner& runner, int32_t prompt, int32_t generate, int32_t batch,
                        const Progress& progress = {});

} // namespace nibble
