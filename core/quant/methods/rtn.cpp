#include "core/quant/methods/rtn.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/quant/row_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

/// Values quantized between two looks at the cancel flag: some 50 ms on one core.
constexpr int64_t kSlabValues = 1 << 20;

struct Worker {
    const QuantizeInput& input;
    const Format& format;
    std::span<const float> weights;
    TensorBuilder& out;

    void quantizeRow(int64_t row) const {
        thread_local std::vector<float> values;
        thread_local std::vector<uint8_t> codes;
        values.resize(static_cast<size_t>(input.cols));
        codes.resize(static_cast<size_t>(input.cols));
        input.values(row, row + 1, values.data());
        requireFinite(row, values);
        storeRow(out, row, fitRow(format, values, weights, codes.data()), codes.data());
    }

    void requireFinite(int64_t row, std::span<const float> values) const {
        // Without an exit in the middle the loop is quick.
        int count = 0;
        for (const float value : values)
            count += std::abs(value) <= std::numeric_limits<float>::max() ? 1 : 0;
        if (count == static_cast<int>(values.size()))
            return;
        for (size_t i = 0; i < values.size(); ++i)
            if (!std::isfinite(values[i]))
                fail(ErrorKind::BadInput,
                     "Tensor \"{}\" holds {} in row {}, column {}; it cannot be quantized. The "
                     "model is damaged: download it again.",
                     printable(input.name), values[i], row, i);
    }
};

/// Importance scaled so that its largest is 1, or ones. It is the weight as it stands: times
/// √(σ² + x²), as k-quants are made elsewhere, the output of a matrix lost 1 to 5 % more (relative
/// output error of q4_k, q2_k, q6_k, iq4_xs and q4_0 on normal and heavy-tailed weights, with
/// inputs of unequal channels that were independent or correlated).
std::vector<float> channelWeights(const QuantizeInput& input) {
    std::vector<float> weights(static_cast<size_t>(input.cols), 1.0f);
    if (input.importance.empty())
        return weights;
    if (input.importance.size() != weights.size())
        fail(ErrorKind::BadInput,
             "The calibration of \"{}\" has {} channels, but the tensor has {}; calibrate this "
             "model again.",
             printable(input.name), input.importance.size(), input.cols);
    float most = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
        const float value = input.importance[i];
        if (!std::isfinite(value) || value < 0)
            fail(ErrorKind::BadInput,
                 "The calibration of \"{}\" holds {} for channel {}; calibrate this model again.",
                 printable(input.name), value, i);
        most = std::max(most, value);
    }
    if (most > 0)
        for (size_t i = 0; i < weights.size(); ++i)
            weights[i] = input.importance[i] / most;
    return weights;
}

Tensor quantizeRtn(const QuantizeInput& input, const Format& format, const Progress& progress) {
    const std::vector<float> weights = channelWeights(input);
    TensorBuilder builder(input.name, format, input.rows, input.cols);
    const Worker worker{input, format, weights, builder};
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

} // namespace

const Method kRtn{"rtn", "Round to nearest", cannotFit, quantizeRtn};

} // namespace nibble
