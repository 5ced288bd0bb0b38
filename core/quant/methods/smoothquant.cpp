#include "core/quant/methods/smoothquant.h"

#include "core/base/error.h"
#include "core/quant/input_scales.h"
#include "core/quant/methods/rtn.h"
#include "core/quant/row_fit.h"

#include <cmath>

namespace nibble {
namespace {

constexpr int64_t kTrialRows = 64;

/// s = max|x|^α / max|w|^(1−α) over a grid of α, judged by the product of rounded weights and
/// rounded activations on sampled tokens.
std::vector<float> smoothScales(const FoldInput& input, const Progress& progress) {
    if (input.statistics->absMax.empty() || input.statistics->samples.empty())
        fail(ErrorKind::Usage,
             "SmoothQuant has to see activations as they are, which no importance matrix holds; "
             "calibrate with a text.");
    const ScaleTrial trial(input, kTrialRows);
    const auto channels = static_cast<size_t>(trial.channels());
    std::vector<float> best(channels, 1.0f);
    double least = trial.productError(best);
    std::vector<float> scales(channels);
    for (int step = 3; step <= 10; ++step) {
        progress.check();
        const float alpha = static_cast<float>(step) / 10;
        for (size_t c = 0; c < channels; ++c)
            scales[c] = std::pow(std::max(input.statistics->absMax[c], 1e-5f), alpha) /
                        std::pow(std::max(trial.weightMax()[c], 1e-5f), 1 - alpha);
        centre(scales);
        if (const double error = trial.productError(scales); error < least) {
            least = error;
            best = scales;
        }
    }
    return best;
}

} // namespace

const Method kSmoothQuant{.name = "smoothquant",
                          .title = "SmoothQuant",
                          .refuses = cannotFit,
                          .quantize = quantizeRtn,
                          .needs = Needs::Statistics,
                          .inputScales = smoothScales};

} // namespace nibble
