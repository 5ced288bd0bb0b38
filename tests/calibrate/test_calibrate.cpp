#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/calibrate/magnitudes.h"
#include "core/quant/apply.h"
#include "core/quant/cholesky.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"

#include <QTest>
#include <algorithm>
#include <cmath>

using namespace nibble;

namespace {

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
    return model;
}

CalibrateOptions few(int32_t windows = 3) {
    CalibrateOptions options;
    options.context = 128;
    options.windows = windows;
    return options;
}

/// Everything that a tap sees in one plain pass over the same windows.
class Everything final : public Tap {
public:
    bool wants(const TapSite& site) const override {
        return site.what == TapSite::What::ProductInput;
    }
    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override {
        auto& kept = inputs[inputKey(site.key)];
        kept.insert(kept.end(), values, values + int64_t(rows) * width);
    }
    std::map<TensorKey, std::vector<float>> inputs;
};

bool near(double a, double b, double relative) {
    return std::abs(a - b) <= relative * std::max(std::abs(a), std::abs(b)) + 1e-12;
}

} // namespace

class TestCalibrate : public QObject {
    Q_OBJECT
private slots:
    void layerByLayerSeesWhatOnePassSees() {
        const auto model = sample();
        const EvaluationText text = shippedCalibrationText();
        const auto calibration = calibrate(model, text, few());
        QCOMPARE(calibration->tokens, int64_t(3 * 128));

        // The windows are spread over the text as the stream spreads them.
        const EvaluationTokens tokens = tokenize(*model->tokenizer, text);
        const size_t all = tokens.tokens.size() / 128;
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = 128;
        options.kFormat = options.vFormat = KvFormat::F32;
        Runner runner(model, options);
        applyRecipe(runner, Recipe{});
        Everything tap;
        for (size_t i = 0; i < 3; ++i) {
            const auto from = tokens.tokens.begin() + std::ptrdiff_t(i * all / 3 * 128);
            std::vector<TokenId> window(from, from + 128);
            if (tokens.bos >= 0)
                window[0] = tokens.bos;
            Session session = runner.newSession();
            runner.append(session, window, true, &tap);
        }
        QCOMPARE(tap.inputs.size(), calibration->inputs.size());
        for (const auto& [key, statistics] : calibration->inputs) {
            const std::vector<float>& values = tap.inputs.at(key);
            const auto channels = static_cast<size_t>(statistics.channels());
            QCOMPARE(values.size(), channels * 3 * 128);
            QCOMPARE(statistics.tokens, int64_t(3 * 128));
            for (size_t c = 0; c < channels; c += 37) {
                double squares = 0, magnitudes = 0, most = 0;
                for (size_t t = 0; t < 3 * 128; ++t) {
                    const double x = double(values[t * channels + c]);
                    squares += x * x / (3 * 128);
                    magnitudes += std::abs(x) / (3 * 128);
                    most = std::max(most, std::abs(x));
                }
                // One layer after the other in float32, or all at once: rounding alone differs.
                QVERIFY(near(double(statistics.meanSquare[c]), squares, 1e-3));
                QVERIFY(near(double(statistics.meanAbs[c]), magnitudes, 1e-3));
                QVERIFY(near(double(statistics.absMax[c]), most, 1e-3));
                std::vector<double> sorted;
                for (size_t t = 0; t < 3 * 128; ++t)
                    sorted.push_back(std::abs(double(values[t * channels + c])));
                std::sort(sorted.begin(), sorted.end());
                for (size_t p = 0; p < std::size(kPercentiles); ++p) {
                    const double exact =
                        sorted[size_t(std::ceil(3 * 128 * kPercentiles[p] / 100)) - 1];
                    const double found = double(statistics.percentiles[p * channels + c]);
                    // Half a bucket, and the rounding above, which may cross into the next one.
                    QVERIFY2(std::abs(found - exact) <= exact / 30 + std::ldexp(1, -18),
                             qPrintable(QString("%1, exact %2").arg(found).arg(exact)));
                }
            }
            QVERIFY(statistics.sampleRows() >= 100 && statistics.sampleRows() <= 200);
        }
        QVERIFY(calibration->find({Role::Value, 0}) == calibration->find({Role::Query, 0}));
        QVERIFY(calibration->find({Role::Up, 5}) == calibration->find({Role::Gate, 5}));
        QVERIFY(calibration->find({Role::TokenEmbedding, -1}) ==
                calibration->find({Role::Output, -1}));
    }

    /// From channels that are dead or constant to values that no bucket is made for.
    void percentilesAreWithinTheirBound() {
        constexpr size_t kChannels = 7, kRows = 1001;
        Magnitudes magnitudes(kChannels);
        std::vector<std::vector<float>> sorted(kChannels);
        for (size_t row = 0; row < kRows; ++row) {
            const float u = static_cast<float>((row * 617 + 1) % kRows) / kRows;
            const float values[kChannels] = {
                0, -3.7f, u, -std::exp(18 * u - 9), 1e-7f * u, 1e5f + u, row == 500 ? 900 : u};
            magnitudes.add(values, 0, 3);
            magnitudes.add(values, 3, kChannels);
            for (size_t c = 0; c < kChannels; ++c)
                sorted[c].push_back(std::abs(values[c]));
        }
        std::vector<float> most;
        for (auto& channel : sorted) {
            std::sort(channel.begin(), channel.end());
            most.push_back(channel.back());
        }
        for (const double percent : {0.05, 50.0, 90.0, 99.0, 99.9, 100.0}) {
            const std::vector<float> found = magnitudes.percentile(percent, most);
            for (size_t c = 0; c < kChannels; ++c) {
                const auto exact =
                    double(sorted[c][size_t(std::ceil(double(kRows) * percent / 100)) - 1]);
                QVERIFY2(std::abs(double(found[c]) - exact) <=
                             exact / 32 * 1.000001 + std::ldexp(1, -18),
                         qPrintable(QString("channel %1 at %2: %3, exact %4")
                                        .arg(c)
                                        .arg(percent)
                                        .arg(double(found[c]))
                                        .arg(exact)));
            }
            QCOMPARE(found[0], 0.0f);
        }
    }

    void momentsAreTheSumOfOuterProducts() {
        constexpr int64_t kSizes[] = {1, 3, 4, 31, 33, 70};
        for (const int64_t size : kSizes) {
            MomentSum sum(size);
            std::vector<float> rows(static_cast<size_t>(size * 29));
            for (size_t i = 0; i < rows.size(); ++i)
                rows[i] = std::sin(static_cast<float>(i * i % 101));
            sum.add(rows.data(), 20);
            sum.add(rows.data() + 20 * size, 9);
            const Moments moments = sum.finish();
            QCOMPARE(moments.tokens, int64_t(29));
            std::vector<float> error(static_cast<size_t>(size));
            double expectedError = 0;
            for (int64_t i = 0; i < size; ++i)
                error[size_t(i)] = std::cos(static_cast<float>(i));
            for (int64_t i = 0; i < size; ++i)
                for (int64_t j = 0; j < size; ++j) {
                    double expected = 0;
                    for (int64_t t = 0; t < 29; ++t)
                        expected += double(rows[size_t(t * size + i)]) *
                                    double(rows[size_t(t * size + j)]) / 29;
                    QVERIFY(std::abs(double(moments.at(i, j)) - expected) < 1e-5);
                    QCOMPARE(moments.at(i, j), moments.at(j, i));
                    expectedError += expected * double(error[size_t(i)]) * double(error[size_t(j)]);
                }
            std::vector<float> rows17;
            for (int i = 0; i < 17; ++i)
                rows17.insert(rows17.end(), error.begin(), error.end());
            QVERIFY(near(outputError(moments, error), expectedError, 1e-4));
            QVERIFY(near(outputError(moments, rows17), 17 * expectedError, 1e-4));
        }
    }

    /// M + damping = Ũ D Ũᵀ: put together again it is the matrix.
    void theFactorIsTheMatrix() {
        constexpr int64_t n = 24;
        MomentSum sum(n);
        std::vector<float> rows(static_cast<size_t>(n * 60));
        for (size_t i = 0; i < rows.size(); ++i)
            rows[i] = std::sin(static_cast<float>((i * 7919) % 977)) + 0.3f;
        sum.add(rows.data(), 60);
        const Moments moments = sum.finish();
        std::vector<int32_t> order(n);
        for (int32_t k = 0; k < n; ++k)
            order[size_t(k)] = (k * 7) % int32_t(n);
        const FeedbackFactor found = factor(moments, order, 0.01);
        QCOMPARE(found.damping, 0.01);
        double mean = 0;
        for (int64_t i = 0; i < n; ++i)
            mean += double(moments.at(i, i)) / n;
        // The last column's weight is its own energy; going backwards gives the others.
        std::vector<std::vector<double>> unit(n, std::vector<double>(n)), rest;
        for (int64_t k = 0; k < n; ++k) {
            unit[size_t(k)][size_t(k)] = 1;
            for (int64_t j = 0; j < k; ++j)
                unit[size_t(j)][size_t(k)] = double(found.feedback[size_t(k * n + j)]);
        }
        std::vector<double> d(n);
        for (int64_t k = n - 1; k >= 0; --k) {
            double taken = 0;
            for (int64_t l = k + 1; l < n; ++l)
                taken += unit[size_t(k)][size_t(l)] * unit[size_t(k)][size_t(l)] * d[size_t(l)];
            d[size_t(k)] =
                double(moments.at(order[size_t(k)], order[size_t(k)])) + 0.01 * mean - taken;
            QVERIFY(d[size_t(k)] > 0);
        }
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j) {
                double together = 0;
                for (int64_t l = std::max(i, j); l < n; ++l)
                    together +=
                        unit[size_t(i)][size_t(l)] * d[size_t(l)] * unit[size_t(j)][size_t(l)];
                const double wanted = double(moments.at(order[size_t(i)], order[size_t(j)])) +
                                      (i == j ? 0.01 * mean : 0);
                QVERIFY(std::abs(together - wanted) < 1e-4 * mean);
            }
    }

    /// Tiles, panels and what is left over of them: UᵀU is the matrix again.
    void theUpperFactorIsTheMatrix_data() {
        QTest::addColumn<int>("size");
        for (const int size : {1, 7, 8, 9, 63, 64, 65, 130, 200, 333})
            QTest::newRow(QByteArray::number(size)) << size;
    }
    void theUpperFactorIsTheMatrix() {
        QFETCH(int, size);
        UpperMatrix matrix(size);
        const auto value = [size](int64_t i, int64_t j) {
            return i == j ? double(size) : std::sin(double(i * 31 + j * 17)) + 0.1;
        };
        for (int64_t i = 0; i < size; ++i)
            for (int64_t j = i; j < size; ++j)
                matrix.row(i)[j] = value(i, j);
        QVERIFY(matrix.factor());
        for (int64_t i = 0; i < size; ++i)
            for (int64_t j = i; j < size; ++j) {
                double sum = 0;
                for (int64_t k = 0; k <= i; ++k)
                    sum += matrix.row(k)[i] * matrix.row(k)[j];
                // Of a sum of `size` products, each rounded once, as large as the diagonal.
                QVERIFY(std::abs(sum - value(i, j)) < 2 * double(size) * double(size) * 2.3e-16);
            }
    }
    void whatIsNotPositiveIsNotFactored() {
        for (const double bad : {0.0, -1.0, double(NAN), double(INFINITY)})
            for (const int64_t at : {0, 5, 70, 99}) {
                UpperMatrix matrix(100);
                for (int64_t i = 0; i < 100; ++i)
                    matrix.row(i)[i] = i == at ? bad : 2;
                QVERIFY(!matrix.factor());
            }
    }

    /// Channels that are constant, dead or copies of each other: damping grows until it works.
    void aSingularMatrixIsDamped() {
        Moments moments{4, 10, std::vector<float>(16, 1.0f)}; // rank one
        for (int i = 0; i < 4; ++i)
            moments.values[size_t(3 * 4 + i)] = moments.values[size_t(i * 4 + 3)] = 0; // dead
        const std::vector<int32_t> order = {0, 1, 2, 3};
        const FeedbackFactor found = factor(moments, order, 0);
        QVERIFY(found.damping > 0);
        QCOMPARE(found.dead, 1);
        for (const float value : found.feedback)
            QVERIFY(std::isfinite(value));
        moments.values[5] = NAN;
        QVERIFY_EXCEPTION_THROWN(factor(moments, order, 0.01), Error);
    }

    /// Growing damping is told: per matrix, and in the receipt.
    void grownDampingIsReported() {
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int4_g32", .method = "gptq"});
        const auto made =
            std::make_shared<Calibration>(*calibrate(sample(), shippedCalibrationText(), few(1)));
        made->moments = [from = made->moments](TensorKey key, const Progress& progress) {
            auto moments = std::make_shared<Moments>(*from(key, progress));
            if (key.layer == 1) // what no inputs have: more in common than each has of its own
                for (int64_t i = 1; i < moments->size; ++i)
                    moments->values[size_t(i)] = moments->values[size_t(i * moments->size)] =
                        2 * std::sqrt(moments->at(0, 0) * moments->at(i, i)) + 1;
            return moments;
        };
        Quantizer quantizer(*sample(), recipe, made);
        quantizer.tensor({Role::Query, 0});
        QVERIFY(quantizer.damped().empty());
        QCOMPARE(receiptText("{}", exportReport(quantizer)), std::string("{}\n"));
        quantizer.tensor({Role::Query, 1});
        QCOMPARE(quantizer.damped().size(), size_t(1));
        QVERIFY(quantizer.damped().at({Role::Query, 1}) > 0.01);
        const std::string receipt = receiptText("{}", exportReport(quantizer));
        QVERIFY2(receipt.find("blk.1.attn_q") != std::string::npos, receipt.c_str());
    }

    void momentsThatDoNotFitAreComputedAgain() {
        const auto model = sample();
        const EvaluationText text = shippedCalibrationText();
        const auto kept = calibrate(model, text, few(2));
        CalibrateOptions tight = few(2);
        tight.momentBytes = 1000;
        tight.cached = false; // what lies on disk need not be computed
        const auto streamed = calibrate(model, text, tight);
        // Forward, backward and the head.
        for (const TensorKey key : {TensorKey{Role::Down, 0}, TensorKey{Role::Value, 3},
                                    TensorKey{Role::Query, 1}, TensorKey{Role::Output, -1}}) {
            const auto a = kept->moments(key, {}), b = streamed->moments(key, {});
            QVERIFY(a && b);
            QCOMPARE(a->values, b->values);
        }
        // Those of one layer are held.
        const std::weak_ptr<const Moments> first = streamed->moments({Role::Down, 0}, {}),
                                           same = streamed->moments({Role::Query, 0}, {});
        QVERIFY(!first.expired());
        streamed->moments({Role::Query, 1}, {});
        QVERIFY(first.expired() && same.expired());
        Progress cancelled;
        cancelled.cancel = std::make_shared<std::atomic<bool>>(true);
        QVERIFY_EXCEPTION_THROWN(streamed->moments({Role::Down, 2}, cancelled), Error);
        QCOMPARE(streamed->moments({Role::Down, 2}, {})->values,
                 kept->moments({Role::Down, 2}, {})->values);
    }

    void badTextsAreNamed_data() {
        QTest::addColumn<QByteArray>("text");
        QTest::newRow("empty") << QByteArray();
        QTest::newRow("too short") << QByteArray("Once upon a time.");
    }
    void badTextsAreNamed() {
        QFETCH(QByteArray, text);
        try {
            calibrate(sample(), {"notes.txt", text.toStdString(), false}, few());
            QFAIL("no error");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY(QString(error.what()).contains("notes.txt"));
        }
    }
    void cancelStops() {
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(true);
        QVERIFY_EXCEPTION_THROWN(calibrate(sample(), shippedCalibrationText(), few(), progress),
                                 Error);
    }
    void aMethodWithoutItsDataSaysSo() {
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int4_g32", .method = "gptq"});
        QCOMPARE(neededCalibration(*sample(), recipe), Needs::Moments);
        try {
            variantTensor(*sample(), recipe, {Role::Query, 0});
            QFAIL("no error");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Usage);
        }
    }
};

QTEST_APPLESS_MAIN(TestCalibrate)
#include "test_calibrate.moc"
