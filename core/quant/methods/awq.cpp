#include "core/quant/methods/awq.h"

#include "core/quant/input_scales.h"
#include "core/quant/methods/rtn.h"
#include "core/quant/row_fit.h"

#include <cmath>

namespace nibble {
namespace {

constexpr int64_t kTrialRows = 256;
constexpr int kSteps = 10;

/// s = x̄^r / w̄^(1−r) over a grid of r, with x̄ the channels' mean |x| and w̄ their mean |w| relative
/// to the group; 1 (no scaling) is the first candidate.
std::vector<float> awqScales(const FoldInput& input, const Progress& progress) {
    const ScaleTrial trial(input, kTrialRows);
    const auto channels = static_cast<size_t>(trial.channels());
    std::vector<float> best(channels, 1.0f);
    double least = trial.weightError(best);
    std::vector<float> scales(channels);
    for (const bool withWeights : {false, true})
        for (int step = 1; step <= kSteps; ++step) {
            progress.check();
            const float ratio = static_cast<float>(step) / kSteps;
            for (size_t c = 0; c < channels; ++c) {
                scales[c] = std::pow(std::max(input.statistics->meanAbs[c], 1e-8f), ratio);
                if (withWeights)
                    scales[c] /= std::pow(trial.relativeWeight()[c], 1 - ratio) + 1e-4f;
            }
            centre(scales);
            if (const double error = trial.weightError(scales); error < least) {
                least = error;
                best = scales;
            }
        }
    return best;
}

} // namespace

const Method kAwq{.name = "awq",
                  .title = "AWQ",
                  .refuses = cannotFit,
                  .quantize = quantizeRtn,
                  .needs = Needs::Statistics,
                  .inputScales = awqScales};

} // namespace nibble
