#include "core/base/error.h"
#include "core/base/random.h"
#include "core/tensor/statistics.h"

#include <QTest>
#include <cmath>
#include <limits>

using namespace nibble;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> normals(int64_t count, double mean, uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values)
        v = static_cast<float>(mean + random.normal());
    return values;
}

Tensor f32(int64_t rows, int64_t cols, const std::vector<float>& values) {
    return makeFloatTensor("t", getFormat("f32"), rows, cols, values);
}

/// Two sums of n doubles in different orders differ by at most about n roundings of the sum of
/// magnitudes; powers up to four add a few roundings a term.
bool agree(double a, double b, double magnitude, double n) {
    return std::fabs(a - b) <= (n + 16) * std::numeric_limits<double>::epsilon() * magnitude;
}

} // namespace

class TestStatistics : public QObject {
    Q_OBJECT
private slots:
    void momentsEqualTheNaiveOnes_data() {
        QTest::addColumn<int>("rows");
        QTest::addColumn<int>("cols");
        QTest::addColumn<double>("mean");
        QTest::newRow("one value") << 1 << 1 << 3.0;
        QTest::newRow("vector") << 1 << 777 << 0.0;
        QTest::newRow("column") << 777 << 1 << 0.0;
        QTest::newRow("matrix") << 301 << 257 << 0.0;
        QTest::newRow("far mean") << 100 << 300 << 1000.0;
    }
    void momentsEqualTheNaiveOnes() {
        QFETCH(int, rows);
        QFETCH(int, cols);
        QFETCH(double, mean);
        const auto values = normals(int64_t(rows) * cols, mean, 5);
        const TensorStatistics s = computeStatistics(f32(rows, cols, values));
        const auto n = static_cast<double>(values.size());
        double sum = 0, magnitude = 0, powers[5] = {};
        for (const float v : values) {
            sum += v;
            magnitude += std::fabs(v);
        }
        for (const float v : values)
            for (int p = 2; p < 5; ++p)
                powers[p] += std::pow(v - sum / n, p);
        QVERIFY(agree(s.mean, sum / n, magnitude / n, n));
        // A deviation carries the mean's own error, hence the mean's magnitude beside it.
        const double size = magnitude / n + s.standardDeviation;
        QVERIFY(agree(s.standardDeviation, std::sqrt(powers[2] / n), size, n));
        if (n > 1) {
            const double deviation = std::sqrt(powers[2] / n), relative = size / deviation;
            const double kurtosis = powers[4] / n / std::pow(deviation, 4);
            QVERIFY(agree(s.skewness, powers[3] / n / std::pow(deviation, 3),
                          8 * kurtosis * relative, n));
            QVERIFY(agree(s.excessKurtosis, kurtosis - 3, 8 * kurtosis * relative, n));
        } else {
            QCOMPARE(s.skewness, 0.0);
        }
        QCOMPARE(s.count, int64_t(values.size()));
        QCOMPARE(s.min, *std::min_element(values.begin(), values.end()));
        QCOMPARE(s.max, *std::max_element(values.begin(), values.end()));
    }

    void linesByHand() {
        const TensorStatistics s = computeStatistics(f32(2, 3, {3, -4, 0, 0, 0, 5}));
        QCOMPARE(s.rowAbsMax, (std::vector<float>{4, 5}));
        QCOMPARE(s.colAbsMax, (std::vector<float>{3, 4, 5}));
        QCOMPARE(s.rowRms[0], static_cast<float>(std::sqrt(25.0 / 3)));
        QCOMPARE(s.colRms[1], static_cast<float>(std::sqrt(16.0 / 2)));
        QCOMPARE(s.absMax, 5.0f);
    }

    void outliersAreFoundAndPlaced() {
        auto values = normals(200 * 300, 0, 6);
        values[17 * 300 + 5] = 50;
        values[150 * 300 + 299] = -60;
        for (size_t c = 0; c < 300; ++c)
            values[90 * 300 + c] *= 4;
        for (size_t r = 0; r < 200; ++r)
            values[r * 300 + 33] *= 5;
        const TensorStatistics s = computeStatistics(f32(200, 300, values));
        int64_t expected = 0;
        for (const float v : values)
            expected += std::fabs(v - s.mean) > 6 * s.standardDeviation;
        QVERIFY(expected > 2);
        QCOMPARE(s.outlierCount, expected);
        QCOMPARE(s.outliers.size(), size_t(std::min<int64_t>(expected, 32)));
        QCOMPARE(s.outliers[0].row, 150);
        QCOMPARE(s.outliers[0].col, 299);
        QCOMPARE(s.outliers[0].value, -60.0f);
        QCOMPARE(s.outliers[1].row, 17);
        for (size_t i = 1; i < s.outliers.size(); ++i)
            QVERIFY(std::fabs(s.outliers[i - 1].value - s.mean) >=
                    std::fabs(s.outliers[i].value - s.mean));
        const auto holds = [](const std::vector<OutlierLine>& lines, int64_t index) {
            return std::any_of(lines.begin(), lines.end(),
                               [&](const auto& l) { return l.index == index; });
        };
        QVERIFY(holds(s.outlierRows, 90) && holds(s.outlierRows, 150));
        QVERIFY(holds(s.outlierCols, 33) && holds(s.outlierCols, 299));
        QVERIFY(!holds(s.outlierRows, 0) && !holds(s.outlierCols, 0));
    }
    void manyOutliersKeepTheFurthest() {
        auto values = normals(400 * 100, 0, 7);
        for (size_t i = 0; i < 40; ++i)
            values[i * 997] = 100 + static_cast<float>(i);
        const TensorStatistics s = computeStatistics(f32(400, 100, values));
        QCOMPARE(s.outlierCount, 40);
        QCOMPARE(s.outliers.size(), size_t(32));
        QCOMPARE(s.outliers.front().value, 139.0f);
        QCOMPARE(s.outliers.back().value, 108.0f);
    }

    void nonFiniteValuesAreCountedApart() {
        const TensorStatistics s = computeStatistics(f32(2, 3, {1, 2, 3, kNan, kInf, -kInf}));
        QCOMPARE(s.nanCount, 1);
        QCOMPARE(s.infCount, 2);
        QCOMPARE(s.mean, 2.0);
        QCOMPARE(s.max, 3.0f);
        QCOMPARE(s.firstNonFinite.at(0).row, 1);
        QCOMPARE(s.firstNonFinite.at(0).col, 0);
        const TensorStatistics none = computeStatistics(f32(1, 2, {kNan, kNan}));
        QCOMPARE(none.nanCount, 2);
        QCOMPARE(none.mean, 0.0);
        QCOMPARE(none.max, 0.0f);
    }
    void constantsHaveNoShape() {
        const TensorStatistics s = computeStatistics(f32(64, 64, std::vector<float>(4096, 0.1f)));
        QCOMPARE(s.mean, double(0.1f));
        QCOMPARE(s.standardDeviation, 0.0);
        QCOMPARE(s.excessKurtosis, 0.0);
        QCOMPARE(s.outlierCount, 0);
    }

    void histogramCountsEveryValueOnce() {
        const Tensor t = f32(2, 5, {-2, -1, -0.5f, 0, 0.5f, 0.999f, 1, 1.001f, kNan, kInf});
        const Histogram h = computeHistogram(t, -1, 1, 4);
        QCOMPARE(h.counts, (std::vector<int64_t>{1, 1, 1, 3}));
        QCOMPARE(h.below, 1);
        QCOMPARE(h.above, 1);
        QCOMPARE(h.nonFinite, 2);
        QVERIFY_EXCEPTION_THROWN(computeHistogram(t, 1, 1, 4), Error);
        QVERIFY_EXCEPTION_THROWN(computeHistogram(t, kNan, 1, 4), Error);
        QVERIFY_EXCEPTION_THROWN(computeHistogram(t, 0, 1, 0), Error);
    }
    void cancelStops() {
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(true);
        try {
            computeStatistics(f32(2, 2, {1, 2, 3, 4}), progress);
            QFAIL("not cancelled");
        } catch (const Error& e) {
            QCOMPARE(e.kind(), ErrorKind::Cancelled);
        }
    }
};

QTEST_GUILESS_MAIN(TestStatistics)
#include "test_statistics.moc"
