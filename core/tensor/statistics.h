#pragma once

#include "core/base/progress.h"
#include "core/tensor/tensor.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace nibble {

/// A matrix whose rows are decoded when they are asked for, so that one larger than memory can be
/// looked at. `decode(begin, end, values)` is called from several threads.
struct RowSource {
    int64_t rows = 0, cols = 0;
    std::function<void(int64_t begin, int64_t end, float* values)> decode;
};
/// The rows of a tensor in memory, which must outlive them.
RowSource rowsOf(const Tensor& tensor);

/// One value of a tensor and where it is.
struct PlacedValue {
    int64_t row = 0, col = 0;
    float value = 0;
};

/// A row or column that stands out: `sigmas` above the mean of all rows (columns), by its absolute
/// maximum or its root mean square, whichever is further out.
struct OutlierLine {
    int64_t index = 0;
    float absMax = 0, rms = 0;
    double sigmas = 0;
};

/// What the weights of a tensor look like. Everything but the two counts is over finite values.
struct TensorStatistics {
    static constexpr double kOutlierSigmas = 6;
    static constexpr size_t kKeptOutliers = 32;

    int64_t count = 0; ///< all values
    int64_t nanCount = 0, infCount = 0;
    std::vector<PlacedValue> firstNonFinite; ///< the first in row order; empty when there is none
    float min = 0, max = 0, absMax = 0;
    double mean = 0, standardDeviation = 0;
    double skewness = 0,
           excessKurtosis = 0;         ///< 0 for a normal distribution, and for constant values
    int64_t outlierCount = 0;          ///< further than 6 standard deviations from the mean
    std::vector<PlacedValue> outliers; ///< the 32 furthest, furthest first
    std::vector<float> rowAbsMax, rowRms, colAbsMax, colRms;
    std::vector<OutlierLine> outlierRows,
        outlierCols; ///< beyond 6 σ of all rows (columns), worst first
};

/// Statistics of every value, decoded in chunks of rows on all threads; the same bits for any
/// number of threads. Rows that may hold outliers are decoded twice. Error{Cancelled} through
/// `progress`.
TensorStatistics computeStatistics(const RowSource& source, const Progress& progress = {});
TensorStatistics computeStatistics(const Tensor& tensor, const Progress& progress = {});

/// Counts of values in `bins` equal bins of [low, high]; the last bin includes `high`.
struct Histogram {
    double low = 0, high = 0;
    std::vector<int64_t> counts;
    int64_t below = 0, above = 0, nonFinite = 0;
};

/// Error{Usage} unless low < high and bins is from 1 to 65536.
Histogram computeHistogram(const RowSource& source, double low, double high, int bins,
                           const Progress& progress = {});
Histogram computeHistogram(const Tensor& tensor, double low, double high, int bins,
                           const Progress& progress = {});

} // namespace nibble
