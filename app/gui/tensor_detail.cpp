#include "app/gui/tensor_detail.h"

#include "core/model/names.h"
#include "core/quant/method.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

namespace {

constexpr int kBins = 161;
constexpr int64_t kChunkValues = 1 << 20;
constexpr size_t kOutliersKept = 64;
constexpr double kOutlierSigmas = 6;

/// Visits a tensor's values row by row, a chunk of rows decoded at a time.
template <typename Visit>
void eachRow(const Tensor& tensor, const Progress& progress, Visit visit) {
    const int64_t rows = std::max<int64_t>(1, kChunkValues / std::max<int64_t>(1, tensor.cols));
    std::vector<float> chunk(size_t(std::min(rows, tensor.rows) * tensor.cols));
    for (int64_t begin = 0; begin < tensor.rows; begin += rows) {
        progress.check();
        const int64_t end = std::min(tensor.rows, begin + rows);
        decodeRows(tensor, begin, end, chunk.data());
        for (int64_t row = begin; row < end; ++row)
            visit(row, chunk.data() + (row - begin) * tensor.cols);
    }
}

void moments(const Tensor& tensor, TensorDetail& detail, const Progress& progress) {
    double sum = 0, squares = 0;
    int64_t finite = 0;
    detail.minimum = std::numeric_limits<double>::infinity();
    detail.maximum = -detail.minimum;
    detail.columnMaxima.assign(size_t(tensor.cols), 0);
    eachRow(tensor, progress, [&](int64_t, const float* values) {
        for (int64_t c = 0; c < tensor.cols; ++c) {
            const double v = double(values[c]);
            if (!std::isfinite(v))
                continue;
            ++finite;
            sum += v;
            squares += v * v;
            detail.minimum = std::min(detail.minimum, v);
            detail.maximum = std::max(detail.maximum, v);
            detail.columnMaxima[size_t(c)] =
                std::max(detail.columnMaxima[size_t(c)], std::abs(values[c]));
        }
    });
    if (finite == 0) {
        detail.minimum = detail.maximum = 0;
        return;
    }
    detail.mean = sum / double(finite);
    detail.sigma = std::sqrt(std::max(0.0, squares / double(finite) - detail.mean * detail.mean));
}

void binning(TensorDetail& detail) {
    double low = detail.minimum, high = detail.maximum;
    if (!(high > low)) {
        low -= 0.5;
        high += 0.5;
    }
    const double margin = (high - low) * 0.01;
    detail.binStart = low - margin;
    detail.binWidth = (high - low + 2 * margin) / kBins;
    detail.baseCounts.assign(kBins, 0);
}

void count(const Tensor& tensor, const TensorDetail& detail, std::vector<double>& counts,
           const Progress& progress) {
    counts.assign(kBins, 0);
    eachRow(tensor, progress, [&](int64_t, const float* values) {
        for (int64_t c = 0; c < tensor.cols; ++c) {
            const double at = (double(values[c]) - detail.binStart) / detail.binWidth;
            if (std::isfinite(at))
                ++counts[size_t(std::clamp(at, 0.0, double(kBins - 1)))];
        }
    });
}

void findOutliers(const Tensor& tensor, TensorDetail& detail, const Progress& progress) {
    if (!(detail.sigma > 0))
        return;
    const double limit = kOutlierSigmas * detail.sigma;
    std::vector<TensorDetail::Outlier> found;
    const auto farther = [](const auto& a, const auto& b) {
        return std::abs(a.sigmas) > std::abs(b.sigmas);
    };
    eachRow(tensor, progress, [&](int64_t row, const float* values) {
        for (int64_t c = 0; c < tensor.cols; ++c) {
            const double v = double(values[c]);
            if (!(std::abs(v - detail.mean) > limit))
                continue;
            ++detail.beyondSixSigma;
            found.push_back({row, c, v, (v - detail.mean) / detail.sigma});
        }
        if (found.size() > 16 * kOutliersKept) {
            std::nth_element(found.begin(), found.begin() + kOutliersKept, found.end(), farther);
            found.resize(kOutliersKept);
        }
    });
    std::sort(found.begin(), found.end(), farther);
    if (found.size() > kOutliersKept)
        found.resize(kOutliersKept);
    detail.outliers = std::move(found);
    for (size_t c = 0; c < detail.columnMaxima.size(); ++c) {
        if (double(detail.columnMaxima[c]) > limit)
            detail.outlierColumns.push_back(int64_t(c));
        detail.columnMaxima[c] = float(double(detail.columnMaxima[c]) / detail.sigma);
    }
}

/// The grid of the group whose scale is the median of a sample of groups, and what lies beyond it.
void findGrid(const Tensor& base, const Tensor& variant, TensorDetail& detail,
              const Progress& progress) {
    const Format& format = *variant.format;
    if (format.isFloat() || format.bits > 8)
        return;
    const int64_t groups = format.groupCount(variant.cols);
    const int64_t total = groups * variant.rows, step = std::max<int64_t>(1, total / 4096);
    std::vector<GroupValues> sample;
    for (int64_t i = 0; i < total; i += step)
        sample.push_back(groupValues(variant, i / groups, i % groups));
    if (sample.empty())
        return;
    const auto middle = sample.begin() + int64_t(sample.size() / 2);
    std::nth_element(sample.begin(), middle, sample.end(), [](const auto& a, const auto& b) {
        return std::abs(a.scale) < std::abs(b.scale);
    });
    const GroupValues g = *middle;
    const int codes = 1 << format.bits;
    for (int c = 0; c < codes; ++c) {
        const double code = format.code == CodeKind::Table ? double(format.table->exact[size_t(c)])
                            : format.bits == 8             ? double(c - 128)
                                                           : double(c);
        detail.grid.push_back(double(format.unit) * g.scale * (code - g.zero) + double(g.offset));
    }
    std::sort(detail.grid.begin(), detail.grid.end());
    detail.clipLow = detail.grid.front();
    detail.clipHigh = detail.grid.back();
    eachRow(base, progress, [&](int64_t, const float* values) {
        for (int64_t c = 0; c < base.cols; ++c) {
            detail.clippedLow += double(values[c]) < detail.clipLow;
            detail.clippedHigh += double(values[c]) > detail.clipHigh;
        }
    });
}

} // namespace

TensorDetail tensorDetail(const Model& model, const Recipe& recipe, TensorKey key,
                          const Progress& progress) {
    TensorDetail detail;
    detail.key = key;
    detail.name = QString::fromStdString(tensorName(key));
    detail.recipeHash = recipe.hash();
    const TensorInfo& info = model.get(key);
    detail.baseFormat = QLatin1String(info.type->name);
    detail.variantFormat = detail.baseFormat;
    const Tensor base = model.load(key);
    detail.rows = base.rows;
    detail.cols = base.cols;
    progress.report(0, 5, "reading");
    moments(base, detail, progress);
    binning(detail);
    progress.report(1, 5, "counting");
    count(base, detail, detail.baseCounts, progress);
    findOutliers(base, detail, progress);

    if (!isMatrix(key.role))
        return detail;
    const TensorChoice choice = recipe.choose(model, key);
    if (!choice.format)
        return detail;
    detail.variantFormat = QLatin1String(choice.format->name);
    detail.method = choice.method ? QLatin1String(choice.method->name) : QString();
    progress.report(2, 5, "quantizing");
    const Tensor variant = variantTensor(model, recipe, key, progress);
    if (variant.rows != base.rows || variant.cols != base.cols)
        return detail;
    count(variant, detail, detail.variantCounts, progress);
    progress.report(3, 5, "comparing");
    findGrid(base, variant, detail, progress);
    detail.error = measureTensor(model, recipe, key);
    detail.quantized = true;
    return detail;
}

} // namespace nibble
