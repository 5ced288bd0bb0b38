#include "core/quant/methods/rtn.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/quant/row_fit.h"

#include <algorithm>

namespace nibble {
namespace {

/// Values quantized between two looks at the cancel flag: some 50 ms on one core.
constexpr int64_t kSlabValues = 1 << 20;

struct Worker {
    const QuantizeInput& input;
    const Format& format;
    std::span<const float> weights;
    ScaleSearch search;
    TensorBuilder& out;

    void quantizeRow(int64_t row) const {
        thread_local std::vector<float> values;
        thread_local std::vector<uint8_t> codes;
        values.resize(static_cast<size_t>(input.cols));
        codes.resize(static_cast<size_t>(input.cols));
        input.values(row, row + 1, values.data());
        requireFinite(input, row, values);
        storeRow(out, row, fitRow(format, values, weights, codes.data(), search), codes.data());
    }
};

Tensor roundRows(const QuantizeInput& input, const Format& format, ScaleSearch search,
                 const Progress& progress) {
    std::vector<float> weights = channelWeights(input);
    if (areEqual(weights))
        weights.clear();
    TensorBuilder builder(input.name, format, input.rows, input.cols);
    const Worker worker{input, format, weights, search, builder};
    const int64_t slab = std::max<int64_t>(1, kSlabValues / std::max<int64_t>(1, input.cols));
    for (int64_t begin = 0; begin < input.rows; begin += slab) {
        const int64_t end = std::min(input.rows, begin + slab);
        parallelFor(static_cast<size_t>(end - begin), 1, [&](size_t first, size_t last) {
            // Only looks: check() may run other work, and this is a thread of the pool.
            for (size_t i = first; i < last && !progress.cancelled(); ++i)
                worker.quantizeRow(begin + static_cast<int64_t>(i));
        });
        progress.check();
        progress.report(static_cast<double>(end), static_cast<double>(input.rows), input.name);
    }
    return builder.finish();
}

/// As formats are published: what they lose beside rtn is what a search of scales gains.
Tensor quantizeLargest(const QuantizeInput& input, const Format& format, const Progress& progress) {
    return roundRows(input, format, ScaleSearch::Largest, progress);
}

} // namespace

Tensor quantizeRtn(const QuantizeInput& input, const Format& format, const Progress& progress) {
    return roundRows(input, format, ScaleSearch::LeastSquares, progress);
}

const Method kRtn{.name = "rtn",
                  .title = "Round to nearest",
                  .refuses = cannotFit,
                  .quantize = quantizeRtn,
                  .rowByRow = true};
const Method kAbsmax{.name = "absmax",
                     .title = "Rounding by the largest magnitude",
                     .refuses = cannotFit,
                     .quantize = quantizeLargest,
                     .rowByRow = true};
const Method kImatrix{.name = "imatrix",
                      .title = "Importance-weighted rounding",
                      .refuses = cannotFit,
                      .quantize = quantizeRtn,
                      .needs = Needs::Statistics,
                      .rowByRow = true};

} // namespace nibble
