#include "core/tensor/statistics.h"

#include "core/base/error.h"
#include "core/base/parallel.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>

namespace nibble {
namespace {

constexpr int64_t kStripes = 16;
constexpr int64_t kChunkValues = 1 << 16;

/// Count, mean and sums of powers of deviations, joined pairwise (Pébay 2008), so that no digits
/// are lost where the mean is far from zero.
struct Moments {
    double count = 0, mean = 0, second = 0, third = 0, fourth = 0;

    void add(const Moments& b) {
        if (b.count == 0)
            return;
        const double n = count + b.count, delta = b.mean - mean, step = delta / n;
        const double cross = delta * step * count * b.count;
        const double newFourth =
            fourth + b.fourth +
            cross * step * step * (count * count - count * b.count + b.count * b.count) +
            6 * step * step * (count * count * b.second + b.count * b.count * second) +
            4 * step * (count * b.third - b.count * third);
        third += b.third + cross * step * (count - b.count) +
                 3 * step * (count * b.second - b.count * second);
        fourth = newFourth;
        second += b.second + cross;
        mean += step * b.count;
        count = n;
    }
};

/// What one stripe of rows found; stripes do not depend on the number of threads.
struct Stripe {
    Moments moments;
    int64_t nans = 0, infinities = 0;
    std::vector<PlacedValue> firstNonFinite;
    float min = std::numeric_limits<float>::infinity(), max = -min;
    std::vector<float> colAbsMax;
    std::vector<double> colSquares;

    void addRow(const float* values, int64_t row, int64_t cols, TensorStatistics& out);
};

void Stripe::addRow(const float* values, int64_t row, int64_t cols, TensorStatistics& out) {
    Moments m;
    double sum = 0, squares = 0;
    float absMax = 0;
    for (int64_t c = 0; c < cols; ++c) {
        const float v = values[c];
        if (!std::isfinite(v)) {
            ++(std::isnan(v) ? nans : infinities);
            if (firstNonFinite.empty())
                firstNonFinite.push_back({row, c, v});
            continue;
        }
        const auto column = static_cast<size_t>(c);
        const float magnitude = std::fabs(v);
        min = std::min(min, v);
        max = std::max(max, v);
        absMax = std::max(absMax, magnitude);
        colAbsMax[column] = std::max(colAbsMax[column], magnitude);
        colSquares[column] += double(v) * v;
        squares += double(v) * v;
        sum += v;
        ++m.count;
    }
    const auto index = static_cast<size_t>(row);
    out.rowAbsMax[index] = absMax;
    if (m.count == 0)
        return;
    out.rowRms[index] = static_cast<float>(std::sqrt(squares / m.count));
    m.mean = sum / m.count;
    for (int64_t c = 0; c < cols; ++c)
        if (std::isfinite(values[c])) {
            const double d = values[c] - m.mean, square = d * d;
            m.second += square;
            m.third += square * d;
            m.fourth += square * square;
        }
    moments.add(m);
}

/// Calls visit(row, values) for every row of every stripe; stripes run in parallel.
void forRows(const RowSource& source, const Progress& progress,
             const std::function<bool(int64_t row)>& wanted,
             const std::function<void(int64_t stripe, int64_t row, const float* values)>& visit) {
    const int64_t stripes = std::min(kStripes, std::max<int64_t>(1, source.rows));
    const int64_t chunk = std::max<int64_t>(1, kChunkValues / std::max<int64_t>(1, source.cols));
    parallelFor(static_cast<size_t>(stripes), 1, [&](size_t first, size_t last) {
        std::vector<float> values(static_cast<size_t>(chunk * source.cols));
        for (auto stripe = static_cast<int64_t>(first); stripe < static_cast<int64_t>(last);
             ++stripe) {
            const int64_t end = source.rows * (stripe + 1) / stripes;
            for (int64_t row = source.rows * stripe / stripes; row < end;) {
                progress.check();
                if (!wanted(row)) {
                    ++row;
                    continue;
                }
                int64_t next = row + 1;
                while (next < end && next - row < chunk && wanted(next))
                    ++next;
                source.decode(row, next, values.data());
                for (int64_t r = row; r < next; ++r)
                    visit(stripe, r, values.data() + (r - row) * source.cols);
                row = next;
            }
        }
    });
}

/// Mean and standard deviation of finite values.
Moments momentsOf(const std::vector<float>& values) {
    Moments m;
    for (const float v : values)
        m.add({1, v, 0, 0, 0});
    return m;
}

double deviationOf(const Moments& m) {
    return m.count == 0 ? 0 : std::sqrt(m.second / m.count);
}

std::vector<OutlierLine> outlierLines(const std::vector<float>& absMax,
                                      const std::vector<float>& rms) {
    const Moments ofMax = momentsOf(absMax), ofRms = momentsOf(rms);
    const auto sigmas = [](float value, const Moments& m) {
        const double deviation = deviationOf(m);
        return deviation == 0 ? 0 : (value - m.mean) / deviation;
    };
    std::vector<OutlierLine> lines;
    for (size_t i = 0; i < absMax.size(); ++i) {
        const double far = std::max(sigmas(absMax[i], ofMax), sigmas(rms[i], ofRms));
        if (far > TensorStatistics::kOutlierSigmas)
            lines.push_back({static_cast<int64_t>(i), absMax[i], rms[i], far});
    }
    std::stable_sort(lines.begin(), lines.end(), [](const OutlierLine& a, const OutlierLine& b) {
        return a.sigmas > b.sigmas;
    });
    return lines;
}

void findOutliers(const RowSource& source, const Progress& progress, TensorStatistics& out) {
    const double limit = TensorStatistics::kOutlierSigmas * out.standardDeviation;
    const auto distance = [&](float v) { return std::fabs(v - out.mean); };
    const auto further = [&](const PlacedValue& a, const PlacedValue& b) {
        const double da = distance(a.value), db = distance(b.value);
        return da != db ? da > db : a.row != b.row ? a.row < b.row : a.col < b.col;
    };
    std::mutex mutex;
    const auto wanted = [&](int64_t row) {
        return out.rowAbsMax[static_cast<size_t>(row)] + std::fabs(out.mean) > limit;
    };
    forRows(source, progress, wanted, [&](int64_t, int64_t row, const float* values) {
        for (int64_t c = 0; c < source.cols; ++c) {
            if (!std::isfinite(values[c]) || distance(values[c]) <= limit)
                continue;
            const PlacedValue found{row, c, values[c]};
            const std::scoped_lock lock(mutex);
            ++out.outlierCount;
            // A heap whose top is the nearest of those kept.
            if (out.outliers.size() == TensorStatistics::kKeptOutliers) {
                if (!further(found, out.outliers.front()))
                    continue;
                std::pop_heap(out.outliers.begin(), out.outliers.end(), further);
                out.outliers.pop_back();
            }
            out.outliers.push_back(found);
            std::push_heap(out.outliers.begin(), out.outliers.end(), further);
        }
    });
    std::sort(out.outliers.begin(), out.outliers.end(), further);
}

} // namespace

RowSource rowsOf(const Tensor& tensor) {
    return {tensor.rows, tensor.cols, [&tensor](int64_t begin, int64_t end, float* values) {
                decodeRows(tensor, begin, end, values);
            }};
}

TensorStatistics computeStatistics(const RowSource& source, const Progress& progress) {
    TensorStatistics out;
    out.count = source.rows * source.cols;
    const auto rows = static_cast<size_t>(source.rows), cols = static_cast<size_t>(source.cols);
    out.rowAbsMax.assign(rows, 0);
    out.rowRms.assign(rows, 0);
    out.colAbsMax.assign(cols, 0);
    out.colRms.assign(cols, 0);
    std::vector<Stripe> stripes(static_cast<size_t>(kStripes));
    forRows(
        source, progress, [](int64_t) { return true; },
        [&](int64_t index, int64_t row, const float* values) {
            Stripe& stripe = stripes[static_cast<size_t>(index)];
            stripe.colAbsMax.resize(cols);
            stripe.colSquares.resize(cols);
            stripe.addRow(values, row, source.cols, out);
        });

    Moments all;
    float low = std::numeric_limits<float>::infinity(), high = -low;
    std::vector<double> colSquares(cols);
    for (const Stripe& stripe : stripes) {
        all.add(stripe.moments);
        low = std::min(low, stripe.min);
        high = std::max(high, stripe.max);
        out.nanCount += stripe.nans;
        out.infCount += stripe.infinities;
        if (out.firstNonFinite.empty())
            out.firstNonFinite = stripe.firstNonFinite;
        for (size_t c = 0; c < stripe.colAbsMax.size(); ++c) {
            out.colAbsMax[c] = std::max(out.colAbsMax[c], stripe.colAbsMax[c]);
            colSquares[c] += stripe.colSquares[c];
        }
    }
    for (size_t c = 0; c < cols && rows > 0; ++c)
        out.colRms[c] = static_cast<float>(std::sqrt(colSquares[c] / static_cast<double>(rows)));
    if (all.count == 0)
        return out;
    out.min = low;
    out.max = high;
    out.absMax = std::max(std::fabs(low), std::fabs(high));
    out.mean = all.mean;
    out.standardDeviation = deviationOf(all);
    if (all.second > 0) {
        out.skewness = std::sqrt(all.count) * all.third / std::pow(all.second, 1.5);
        out.excessKurtosis = all.count * all.fourth / (all.second * all.second) - 3;
        findOutliers(source, progress, out);
    }
    out.outlierRows = outlierLines(out.rowAbsMax, out.rowRms);
    out.outlierCols = outlierLines(out.colAbsMax, out.colRms);
    return out;
}

Histogram computeHistogram(const RowSource& source, double low, double high, int bins,
                           const Progress& progress) {
    if (!(low < high) || bins < 1 || bins > 65536)
        fail(ErrorKind::Usage,
             "A histogram needs a range and 1 to 65536 bins; {} to {} in {} bins is not one.", low,
             high, bins);
    const Histogram empty{low, high, std::vector<int64_t>(static_cast<size_t>(bins)), 0, 0, 0};
    std::vector<Histogram> stripes(static_cast<size_t>(kStripes), empty);
    const double scale = bins / (high - low);
    forRows(
        source, progress, [](int64_t) { return true; },
        [&](int64_t stripe, int64_t, const float* values) {
            Histogram& part = stripes[static_cast<size_t>(stripe)];
            for (int64_t c = 0; c < source.cols; ++c) {
                const float v = values[c];
                if (!std::isfinite(v))
                    ++part.nonFinite;
                else if (v < low)
                    ++part.below;
                else if (v > high)
                    ++part.above;
                else
                    ++part.counts[static_cast<size_t>(
                        std::min<double>(bins - 1, (v - low) * scale))];
            }
        });
    Histogram out = empty;
    for (const Histogram& part : stripes) {
        for (size_t i = 0; i < part.counts.size(); ++i)
            out.counts[i] += part.counts[i];
        out.below += part.below;
        out.above += part.above;
        out.nonFinite += part.nonFinite;
    }
    return out;
}

TensorStatistics computeStatistics(const Tensor& tensor, const Progress& progress) {
    return computeStatistics(rowsOf(tensor), progress);
}

Histogram computeHistogram(const Tensor& tensor, double low, double high, int bins,
                           const Progress& progress) {
    return computeHistogram(rowsOf(tensor), low, high, bins, progress);
}

} // namespace nibble
