#pragma once

#include "core/base/progress.h"
#include "core/evaluate/quality.h"

#include <string>
#include <vector>

namespace nibble {

/// One tensor in detail: the distribution before and after quantization on the
/// same bins, the values that its grid can represent, and what lies far out. Plain values.
struct TensorDetail {
    TensorKey key;
    std::string name;          ///< "blk.27.ffn_down"
    std::string baseFormat;    ///< "f16", or stored and running as: "iq3_s, runs as f16"
    std::string variantFormat; ///< as the recipe makes it, "int4_g128"
    std::string method;        ///< "rtn"; empty where nothing is quantized
    int64_t rows = 0, cols = 0;

    double mean = 0, sigma = 0, minimum = 0, maximum = 0;

    double binStart = 0, binWidth = 0; ///< of both histograms
    std::vector<double> baseCounts, variantCounts;
    bool quantized = false; ///< variantCounts, grid, clips and error are filled

    /// Values that the row's median-scale group can take, ascending; empty where there are more
    /// than 256.
    std::vector<double> grid;
    double clipLow = 0, clipHigh = 0;        ///< ends of that grid
    int64_t clippedLow = 0, clippedHigh = 0; ///< base values beyond them

    struct Outlier {
        int64_t row = 0, col = 0;
        double value = 0, sigmas = 0;
    };
    int64_t beyondSixSigma = 0;
    std::vector<Outlier> outliers; ///< the farthest first, at most 32
    std::vector<float>
        columnMaxima; ///< largest |value| of each input channel, in standard deviations
    std::vector<int64_t> outlierColumns; ///< input channels whose maximum is beyond 6 σ

    /// Largest |value| of each input channel over the calibration's tokens; empty where no
    /// calibration is at hand.
    std::vector<float> inputMaxima;
    float outlierThreshold = 0; ///< from which LLM.int8() keeps a channel out of the codes

    TensorError error; ///< of this tensor by itself
    uint64_t recipeHash = 0;
};

/// Computes all of it for one tensor under a recipe; reads the model only. A second or two for
/// matrices of 100 million values. Throws Error.
TensorDetail tensorDetail(const Model& model, const Recipe& recipe, TensorKey key,
                          const Progress& progress = {},
                          std::shared_ptr<const Calibration> calibration = nullptr);

/// A stored tensor in detail, also of a model that is not understood: its values alone, read some
/// rows at a time. `key` is left as it is. Error{BadInput} for types that cannot be read.
TensorDetail storedDetail(const TensorInfo& info, const Progress& progress = {});

} // namespace nibble
