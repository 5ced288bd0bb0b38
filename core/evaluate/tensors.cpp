#include "core/evaluate/quality.h"

#include "core/base/parallel.h"
#include "core/quant/quantizer.h"
#include "core/tensor/statistics.h"

#include <cmath>
#include <limits>

namespace nibble {

namespace {

TensorError measure(const Model& model, Quantizer& quantizer, TensorKey key) {
    const Tensor base = model.load(key);
    const Tensor variant = quantizer.tensor(key);
    TensorError error = compareTensors(key, base, quantizer.inBaseScale(key, variant));
    error.format = variant.format->name;
    error.bitsPerWeight = variant.format->bitsPerWeight(variant.cols);
    error.bytes = variant.storedBytes();
    error.beyondSixSigma = computeStatistics(base).outlierCount;
    return error;
}

} // namespace

TensorError compareTensors(TensorKey key, const Tensor& base, const Tensor& variant) {
    TensorError out;
    out.key = key;
    out.format = variant.format->name;
    out.bitsPerWeight = variant.format->bitsPerWeight(variant.cols);
    out.bytes = variant.storedBytes();
    if (base.rows != variant.rows || base.cols != variant.cols)
        fail(ErrorKind::Internal, "{}: the variant has another shape than the base.", base.name);

    struct Sums {
        double base = 0, variant = 0, product = 0, difference = 0;
    };
    const auto cols = static_cast<size_t>(base.cols);
    // One partial sum a row keeps the result independent of how rows are dealt to threads.
    std::vector<Sums> rows(static_cast<size_t>(base.rows));
    parallelFor(rows.size(), 16, [&](size_t begin, size_t end) {
        std::vector<float> x(cols), y(cols);
        for (size_t r = begin; r < end; ++r) {
            const auto row = static_cast<int64_t>(r);
            decodeRows(base, row, row + 1, x.data());
            decodeRows(variant, row, row + 1, y.data());
            Sums s;
            for (size_t c = 0; c < cols; ++c) {
                const double a = static_cast<double>(x[c]), b = static_cast<double>(y[c]);
                s.base += a * a;
                s.variant += b * b;
                s.product += a * b;
                s.difference += (a - b) * (a - b);
            }
            rows[r] = s;
        }
    });
    Sums sum;
    for (const Sums& s : rows) {
        sum.base += s.base;
        sum.variant += s.variant;
        sum.product += s.product;
        sum.difference += s.difference;
    }
    out.relativeError = sum.base > 0 ? std::sqrt(sum.difference / sum.base) : 0;
    out.sqnr = sum.difference > 0 ? 10 * std::log10(sum.base / sum.difference)
                                  : std::numeric_limits<double>::infinity();
    out.cosine =
        sum.base > 0 && sum.variant > 0 ? sum.product / std::sqrt(sum.base * sum.variant) : 1;
    return out;
}

std::vector<TensorError> measureTensors(const Model& model, const Recipe& recipe,
                                        std::vector<TensorKey> keys, const Progress& progress,
                                        const std::function<void(const TensorError&)>& onEach,
                                        std::shared_ptr<const Calibration> calibration) {
    Quantizer quantizer(model, recipe, std::move(calibration));
    if (keys.empty())
        for (const TensorKey key : model.keys())
            if (isMatrix(key.role))
                keys.push_back(key);
    std::vector<TensorError> out;
    for (const TensorKey key : keys) {
        progress.check();
        out.push_back(measure(model, quantizer, key));
        if (onEach)
            onEach(out.back());
        progress.report(static_cast<double>(out.size()), static_cast<double>(keys.size()),
                        "tensors");
    }
    return out;
}

} // namespace nibble
