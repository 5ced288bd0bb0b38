#include "core/evaluate/tensor_detail.h"

#include "core/base/parallel.h"
#include "core/model/names.h"
#include "core/quant/quantizer.h"
#include "core/tensor/planes.h"
#include "core/tensor/statistics.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr int kBins = 161;
constexpr size_t kSampledGroups = 4096;

/// One bin's width of margin on both sides, so that the ends of the distribution stand free.
void chooseBins(TensorDetail& detail) {
    double low = detail.minimum, high = detail.maximum;
    if (!(high > low)) {
        low -= 0.5;
        high += 0.5;
    }
    const double margin = (high - low) * 0.01;
    detail.binStart = low - margin;
    detail.binWidth = (high - low + 2 * margin) / kBins;
}

/// Counts on the detail's bins; what quantization moved beyond the ends counts in the last bins.
std::vector<double> countOn(const TensorDetail& detail, const RowSource& rows,
                            const Progress& progress) {
    const Histogram histogram = computeHistogram(
        rows, detail.binStart, detail.binStart + kBins * detail.binWidth, kBins, progress);
    std::vector<double> counts(histogram.counts.begin(), histogram.counts.end());
    counts.front() += static_cast<double>(histogram.below);
    counts.back() += static_cast<double>(histogram.above);
    return counts;
}

void takeStatistics(const RowSource& rows, TensorDetail& detail, const Progress& progress) {
    const TensorStatistics s = computeStatistics(rows, progress);
    detail.mean = s.mean;
    detail.sigma = s.standardDeviation;
    detail.minimum = static_cast<double>(s.min);
    detail.maximum = static_cast<double>(s.max);
    detail.beyondSixSigma = s.outlierCount;
    detail.columnMaxima = s.colAbsMax;
    if (!(detail.sigma > 0))
        return;
    for (const PlacedValue& v : s.outliers)
        detail.outliers.push_back({v.row, v.col, static_cast<double>(v.value),
                                   (static_cast<double>(v.value) - s.mean) / s.standardDeviation});
    for (size_t c = 0; c < detail.columnMaxima.size(); ++c) {
        const double sigmas = static_cast<double>(s.colAbsMax[c]) / s.standardDeviation;
        if (sigmas > TensorStatistics::kOutlierSigmas)
            detail.outlierColumns.push_back(static_cast<int64_t>(c));
        detail.columnMaxima[c] = static_cast<float>(sigmas);
    }
}

/// The values that the group of median scale can take; the median of an even sample of groups.
std::vector<double> typicalGrid(const Tensor& variant) {
    const Format& format = *variant.format;
    if (format.isFloat())
        return {};
    const int64_t groups = format.groupCount(variant.cols), total = groups * variant.rows;
    const int64_t step = std::max<int64_t>(1, total / static_cast<int64_t>(kSampledGroups));
    std::vector<GroupValues> sample;
    for (int64_t i = 0; i < total; i += step)
        sample.push_back(groupValues(variant, i / groups, i % groups));
    if (sample.empty())
        return {};
    const auto middle = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() / 2);
    std::nth_element(sample.begin(), middle, sample.end(), [](const auto& a, const auto& b) {
        return std::abs(a.scale) < std::abs(b.scale);
    });
    std::vector<double> grid;
    for (int c = 0; c < 1 << format.bits; ++c) {
        const double code = format.code == CodeKind::Table
                                ? static_cast<double>(format.table->exact[static_cast<size_t>(c)])
                            : format.bits == 8 ? static_cast<double>(c - 128)
                                               : static_cast<double>(c);
        grid.push_back(static_cast<double>(format.unit) * middle->scale * (code - middle->zero) +
                       static_cast<double>(middle->offset));
    }
    std::sort(grid.begin(), grid.end());
    return grid;
}

void countBeyond(const Tensor& base, TensorDetail& detail) {
    detail.clipLow = detail.grid.front();
    detail.clipHigh = detail.grid.back();
    std::vector<std::pair<int64_t, int64_t>> rows(static_cast<size_t>(base.rows));
    parallelFor(rows.size(), 16, [&](size_t begin, size_t end) {
        std::vector<float> values(static_cast<size_t>(base.cols));
        for (size_t r = begin; r < end; ++r) {
            decodeRows(base, static_cast<int64_t>(r), static_cast<int64_t>(r) + 1, values.data());
            for (const float v : values) {
                rows[r].first += static_cast<double>(v) < detail.clipLow;
                rows[r].second += static_cast<double>(v) > detail.clipHigh;
            }
        }
    });
    for (const auto& [low, high] : rows) {
        detail.clippedLow += low;
        detail.clippedHigh += high;
    }
}

} // namespace

TensorDetail tensorDetail(const Model& model, const Recipe& recipe, TensorKey key,
                          const Progress& progress,
                          std::shared_ptr<const Calibration> calibration) {
    TensorDetail detail;
    detail.key = key;
    detail.name = tensorName(key);
    detail.recipeHash = recipe.hash();
    detail.baseFormat = detail.variantFormat = model.get(key).storedText();
    const Tensor base = model.load(key);
    detail.rows = base.rows;
    detail.cols = base.cols;
    takeStatistics(rowsOf(base), detail, progress);
    chooseBins(detail);
    detail.baseCounts = countOn(detail, rowsOf(base), progress);
    if (!isMatrix(key.role))
        return detail;
    detail.outlierThreshold = recipe.outlierThreshold;
    const bool lookedUp = key.role == Role::TokenEmbedding && model.headKey() != key;
    if (const InputStatistics* inputs = calibration && !lookedUp ? calibration->find(key) : nullptr)
        detail.inputMaxima = inputs->absMax;
    const TensorChoice choice = recipe.choose(model, key);
    if (!choice.format)
        return detail;
    detail.variantFormat = choice.format->name;
    detail.method = choice.method ? choice.method->name : "";
    Quantizer quantizer(model, recipe, std::move(calibration));
    const Tensor variant = quantizer.tensor(key, progress);
    const Tensor comparable = quantizer.inBaseScale(key, variant);
    detail.variantCounts = countOn(detail, rowsOf(comparable), progress);
    detail.grid = typicalGrid(variant);
    if (!detail.grid.empty())
        countBeyond(base, detail);
    detail.error = compareTensors(key, base, comparable);
    detail.error.format = variant.format->name;
    detail.error.bitsPerWeight = variant.format->bitsPerWeight(variant.cols);
    detail.error.bytes = variant.storedBytes();
    detail.error.beyondSixSigma = detail.beyondSixSigma;
    detail.quantized = true;
    return detail;
}

TensorDetail storedDetail(const TensorInfo& info, const Progress& progress) {
    TensorDetail detail;
    detail.name = info.name;
    detail.baseFormat = detail.variantFormat = info.storedText();
    detail.rows = info.rows();
    detail.cols = info.cols();
    const RowSource rows = storedRows(info);
    takeStatistics(rows, detail, progress);
    chooseBins(detail);
    detail.baseCounts = countOn(detail, rows, progress);
    return detail;
}

} // namespace nibble
