#include "core/base/error.h"
#include "core/evaluate/ladder.h"
#include "core/evaluate/measured.h"
#include "core/evaluate/quality.h"
#include "core/evaluate/tensor_detail.h"
#include "core/quant/apply.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include <numeric>

using namespace nibble;

namespace {

std::unique_ptr<Runner> run(const std::shared_ptr<const Model>& model, const Recipe& recipe) {
    RunOptions options;
    options.placement = placeAll(*model, openCpu());
    options.context = 64;
    options.maxRows = 24; // windows run in several chunks
    auto runner = std::make_unique<Runner>(model, options);
    applyRecipe(*runner, recipe);
    return runner;
}

EvaluationTokens someTokens() {
    EvaluationTokens tokens{"made up", 0, {}, -1};
    for (int i = 0; i < 300; ++i)
        tokens.tokens.push_back((i * 37 + i * i) % 256);
    return tokens;
}

EvaluateOptions shortWindows() {
    EvaluateOptions options;
    options.context = 64;
    return options;
}

} // namespace

class TestQuality : public QObject {
    Q_OBJECT
private slots:
    void keptLogitsGiveTheSameFigures_data() {
        QTest::addColumn<quint64>("limit");
        const quint64 window = 31 * 256 * 4;
        QTest::newRow("all windows") << 100 * window;
        QTest::newRow("two of four") << 2 * window;
        QTest::newRow("none") << window - 1;
    }
    void keptLogitsGiveTheSameFigures() {
        QFETCH(quint64, limit);
        const auto model = makeSyntheticModel("tiny");
        const auto base = run(model, {});
        BaseLogits kept(limit);
        for (const char* level : {"q8_0", "int4"}) {
            const auto variant = run(model, levelRecipe(level, *model));
            const QualityReport alone =
                measureQuality(*variant, base.get(), someTokens(), shortWindows());
            const QualityReport again =
                measureQuality(*variant, base.get(), someTokens(), shortWindows(), {}, {}, &kept);
            QCOMPARE(again.kldMean, alone.kldMean);
            QCOMPARE(again.kldMax, alone.kldMax);
            QCOMPARE(again.basePpl, alone.basePpl);
            QCOMPARE(again.sameTop, alone.sameTop);
            QCOMPARE(again.tokens, int64_t(4 * 31));
            QVERIFY(alone.kldMean > 0);
        }
        QCOMPARE(kept.find(0) != nullptr, limit >= 31 * 256 * 4);
        QCOMPARE(kept.find(3) != nullptr, limit >= 4 * 31 * 256 * 4);
    }
    void figuresFollowTheirDefinitions() {
        // Perplexity and divergence of one window, from the logits themselves.
        const auto model = makeSyntheticModel("tiny");
        const auto base = run(model, {}), variant = run(model, levelRecipe("int4", *model));
        EvaluateOptions options = shortWindows();
        options.chunks = 1;
        const EvaluationTokens tokens = someTokens();
        const QualityReport report = measureQuality(*variant, base.get(), tokens, options);
        const std::span<const TokenId> window(tokens.tokens.data(), 64);
        Session a = base->newSession(), b = variant->newSession();
        const std::vector<float> p = base->append(a, window, true);
        const std::vector<float> q = variant->append(b, window, true);
        const auto logProbability = [](const std::vector<float>& logits, size_t row, size_t token) {
            double sum = 0;
            for (size_t i = 0; i < 256; ++i)
                sum += std::exp(double(logits[row * 256 + i]));
            return double(logits[row * 256 + token]) - std::log(sum);
        };
        double nll = 0, kld = 0;
        for (size_t row = 32; row < 63; ++row) { // the second half, without the last
            nll -= logProbability(q, row, size_t(window[row + 1])) / 31;
            for (size_t i = 0; i < 256; ++i) {
                const double base_ = logProbability(p, row, i);
                kld += std::exp(base_) * (base_ - logProbability(q, row, i)) / 31;
            }
        }
        // Sums of 256 float64 terms.
        QVERIFY(std::abs(report.ppl / std::exp(nll) - 1) < 1e-12);
        QVERIFY(std::abs(report.kldMean - kld) < 1e-12);
        QCOMPARE(report.tokens, int64_t(31));
    }
    void differencesArePaired() {
        const auto model = makeSyntheticModel("tiny");
        const auto base = run(model, {});
        const auto measure = [&](const char* level, const EvaluateOptions& options) {
            return measureQuality(*run(model, levelRecipe(level, *model)), base.get(), someTokens(),
                                  options);
        };
        const QualityReport four = measure("int4", shortWindows());
        const QualityReport five = measure("q5_k_m", shortWindows());
        const auto difference = pairedDifference(four, five);
        QVERIFY(difference.has_value());
        // float32 of each token's loss
        QVERIFY(std::abs(difference->kld - (four.kldMean - five.kldMean)) <
                1e-6 * (four.kldMean + five.kldMean));
        QVERIFY(difference->error > 0 && difference->certain());
        QCOMPARE(pairedDifference(four, four)->kld, 0.0);
        QVERIFY(!pairedDifference(four, four)->certain());
        EvaluateOptions fewer = shortWindows();
        fewer.chunks = 2;
        QVERIFY(!pairedDifference(four, measure("int4", fewer)));
    }
    void windowsCanBeSpread() {
        const auto model = makeSyntheticModel("tiny");
        const auto runner = run(model, {});
        EvaluateOptions options = shortWindows();
        options.chunks = 2;
        options.spread = true;
        // The first and the last of four.
        EvaluationTokens ends = someTokens();
        ends.tokens.erase(ends.tokens.begin() + 64, ends.tokens.begin() + 192);
        const double spread = measureQuality(*runner, nullptr, someTokens(), options).ppl;
        QCOMPARE(spread, measureQuality(*runner, nullptr, ends, options).ppl);
        options.spread = false;
        QVERIFY(measureQuality(*runner, nullptr, someTokens(), options).ppl != spread);
    }
    void receiptsSayWhatWasMeasured() {
        const QTemporaryDir cache;
        const QByteArray before = qgetenv("XDG_CACHE_HOME");
        qputenv("XDG_CACHE_HOME", cache.path().toUtf8());
        const auto model = makeSyntheticModel("tiny");
        const auto base = run(model, {});
        const Recipe recipe = levelRecipe("q8_0", *model);
        QVERIFY(keptNotes(*model, recipe, nullptr).measurements.empty());
        const QualityReport report =
            measureQuality(*run(model, recipe), base.get(), someTokens(), shortWindows());
        keepMeasured(*model, recipe, nullptr, report);
        const ExportNotes notes = keptNotes(*model, recipe, nullptr);
        QCOMPARE(notes.measurements, measuredJson(report, nullptr));
        QVERIFY(notes.measurements.find("\"kld_mean\":") != std::string::npos);
        // Another recipe's are not its own.
        QVERIFY(keptNotes(*model, levelRecipe("q4_0", *model), nullptr).measurements.empty());
        const QString out = cache.filePath("out.gguf");
        exportGguf(*model, recipe, out.toStdString(), {}, nullptr, notes);
        QFile receipt(out + ".receipt.json");
        QVERIFY(receipt.open(QIODevice::ReadOnly));
        QVERIFY(receipt.readAll().contains("\"kld_mean\": "));
        qputenv("XDG_CACHE_HOME", before);
    }
    void otherEncodingsAreNoText() {
        const QTemporaryDir folder;
        const auto refused = [&](const QByteArray& bytes) {
            QFile file(folder.filePath("text.txt"));
            [&] { QVERIFY(file.open(QIODevice::WriteOnly)); }();
            file.write(bytes);
            file.close();
            try {
                evaluationTextFile(file.fileName().toStdString());
            } catch (const Error& error) {
                return error.exitCode() == 3;
            }
            return false;
        };
        QVERIFY(!refused("plain text, \xc3\xa9 included"));
        QVERIFY(refused(QByteArray("\xff\xfeh\0i\0", 6)));
        QVERIFY(refused("caf\xe9 in Latin-1"));
        QVERIFY(refused(QByteArray("zero\0byte", 9)));
    }
    void everyWindowBeginsWithBos() {
        const auto model = makeSyntheticModel("tiny");
        const auto runner = run(model, {});
        EvaluationTokens plain = someTokens(), marked = someTokens();
        marked.bos = 7;
        for (size_t i = 0; i < plain.tokens.size(); i += 64)
            plain.tokens[i] = 7;
        QCOMPARE(measureQuality(*runner, nullptr, marked, shortWindows()).ppl,
                 measureQuality(*runner, nullptr, plain, shortWindows()).ppl);
        QVERIFY(measureQuality(*runner, nullptr, someTokens(), shortWindows()).ppl !=
                measureQuality(*runner, nullptr, plain, shortWindows()).ppl);
    }
    void damagedWeightsGiveASentenceAndNoFigure() {
        const auto model = makeSyntheticModel("tiny");
        const auto runner = run(model, {});
        const TensorKey key{Role::Down, 1};
        std::vector<float> values = decode(model->load(key));
        values[5] = std::numeric_limits<float>::quiet_NaN();
        const TensorInfo& info = model->get(key);
        runner->setTensor(
            key, makeFloatTensor("bad", getFormat("f32"), info.rows(), info.cols(), values));
        try {
            measureQuality(*runner, nullptr, someTokens(), shortWindows());
            QFAIL("logits that are no numbers must be refused");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 3);
        }
    }
    void tokensBeyondTheVocabularyAreRefused() {
        const auto model = makeSyntheticModel("tiny");
        const auto runner = run(model, {});
        EvaluationTokens tokens = someTokens();
        tokens.tokens[70] = 256;
        QVERIFY_EXCEPTION_THROWN(measureQuality(*runner, nullptr, tokens, shortWindows()), Error);
    }
    void tensorErrorsShrinkWithBits() {
        const auto model = makeSyntheticModel("tiny");
        double last = -1;
        for (const char* level : {"f16", "q8_0", "int4"}) {
            double worst = 0;
            for (const TensorError& error : measureTensors(*model, levelRecipe(level, *model)))
                worst = std::max(worst, error.relativeError);
            QVERIFY2(worst > last, level);
            last = worst;
        }
        const TensorError error =
            measureTensors(*model, levelRecipe("int4", *model), {{Role::Up, 0}}).front();
        QCOMPARE(error.format, std::string("int4_g32"));
        QCOMPARE(error.bitsPerWeight, 4.5);
        // SQNR and relative error are one number in two units.
        QVERIFY(std::abs(error.sqnr + 20 * std::log10(error.relativeError)) < 1e-9);
        QCOMPARE(error.beyondSixSigma,
                 tensorDetail(*model, levelRecipe("int4", *model), {Role::Up, 0}).beyondSixSigma);
    }
    void recommendsTheSmallestWithoutNoticeableLoss() {
        const auto row = [](const char* level, uint64_t bytes, double kld, double tps) {
            LadderRow r;
            r.level = level;
            r.size.bytes = bytes;
            r.fits = r.measured = true;
            r.quality.kldMean = kld;
            r.generateTps = tps;
            return r;
        };
        std::vector<LadderRow> rows{row("f16", 100, 0, 10), row("int8", 50, 0.001, 20),
                                    row("int4", 28, 0.03, 30)};
        auto best = recommendLevel(rows, 100);
        QVERIFY(best && best->measured && best->smallLoss);
        QCOMPARE(best->row, size_t(1));
        QCOMPARE(best->sizeShare, 0.5);
        QCOMPARE(best->speedRatio, 2.0);
        rows[1].fits = rows[0].fits = false; // what fits wins over what loses less
        QCOMPARE(recommendLevel(rows, 100)->row, size_t(2));
        QVERIFY(!recommendLevel(rows, 100)->smallLoss);
        rows[2].fits = false;
        QVERIFY(!recommendLevel(rows, 100));
        for (LadderRow& r : rows) {
            r.fits = true;
            r.measured = false;
        }
        rows[0].fits = false; // unmeasured: the most bits that fit
        QCOMPARE(recommendLevel(rows, 100)->row, size_t(1));
        QVERIFY(!recommendLevel(rows, 100)->measured);
    }
    void shippedTextIsThere() {
        const EvaluationText text = shippedEvaluationText();
        QVERIFY(text.text.size() > 100'000);
        QVERIFY(text.special);
    }
    void oneTensorInDetail() {
        const auto model = makeSyntheticModel("tiny");
        const TensorKey key{Role::Down, 1};
        const TensorDetail detail = tensorDetail(*model, levelRecipe("int4", *model), key);
        const auto sum = [](const std::vector<double>& counts) {
            return std::accumulate(counts.begin(), counts.end(), 0.0);
        };
        const auto values = static_cast<double>(detail.rows * detail.cols);
        QCOMPARE(sum(detail.baseCounts), values); // tails are never cut off
        QCOMPARE(sum(detail.variantCounts), values);
        QCOMPARE(detail.grid.size(), size_t(16));
        QVERIFY(detail.quantized && detail.error.relativeError > 0);
        QCOMPARE(detail.columnMaxima.size(), static_cast<size_t>(detail.cols));
        QCOMPARE(detail.error.sqnr,
                 measureTensors(*model, levelRecipe("int4", *model), {key}).front().sqnr);
        const TensorDetail norm =
            tensorDetail(*model, levelRecipe("int4", *model), {Role::AttentionNorm, 0});
        QVERIFY(!norm.quantized && norm.variantCounts.empty());
    }
};

QTEST_GUILESS_MAIN(TestQuality)
#include "test_quality.moc"
