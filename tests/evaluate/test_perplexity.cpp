// ctest: TIMEOUT=600
#include "core/evaluate/ladder.h"
#include "core/quant/apply.h"
#include "tests/support/shared_data.h"

#include <QTest>

using namespace nibble;

/// llama-perplexity's own figures for two small trained models (oracles/perplexity/expected.json).
class TestPerplexity : public QObject {
    Q_OBJECT

    static std::unique_ptr<Runner> run(const std::shared_ptr<const Model>& model,
                                       const Recipe& recipe, int32_t context = 256) {
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = context;
        options.kFormat = options.vFormat = KvFormat::F32;
        auto runner = std::make_unique<Runner>(model, options);
        applyRecipe(*runner, recipe);
        return runner;
    }
    static Recipe withActivations(const char* activations) {
        Recipe recipe;
        recipe.rules.push_back({"*", "q8_0", "rtn", activations});
        return recipe;
    }

private slots:
    void f32ModelsGiveThePublishedPerplexity_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("vocabulary");
        QTest::addColumn<QString>("text");
        QTest::addColumn<double>("ppl");
        QTest::addColumn<double>("error");
        const QString gguf = QStringLiteral("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf");
        QTest::newRow("stories260K")
            << QStringLiteral("models/stories260K-f32.gguf")
            << QStringLiteral("models/stories260K-f32.gguf")
            << QStringLiteral("oracles/perplexity/stories.txt") << 7.5666 << 0.09935;
        QTest::newRow("TinyStories-656K")
            << QStringLiteral("models/TinyStories-656K") << gguf
            << QStringLiteral("oracles/perplexity/stories-ascii.txt") << 146.9429 << 3.16096;
    }
    void f32ModelsGiveThePublishedPerplexity() {
        NIBBLE_NEED_SHARED("oracles/perplexity");
        QFETCH(QString, model);
        QFETCH(QString, vocabulary);
        QFETCH(QString, text);
        QFETCH(double, ppl);
        QFETCH(double, error);
        const auto path = [](const QString& s) { return test::sharedPath(s.toUtf8().constData()); };
        const auto opened = openModel(path(model));
        const auto words = openModel(path(vocabulary));
        const auto tokens = tokenize(*words->tokenizer, evaluationTextFile(path(text)));
        const auto runner = run(opened, Recipe{});
        EvaluateOptions options;
        options.context = 256;
        const QualityReport report = measureQuality(*runner, nullptr, tokens, options);
        qInfo("ppl %.6f ± %.6f on %lld tokens", report.ppl, report.pplError,
              static_cast<long long>(report.tokens));
        QVERIFY2(std::abs(report.ppl / ppl - 1) < 1e-4,
                 qPrintable(QString::number(report.ppl, 'g', 9)));
        QVERIFY2(std::abs(report.pplError / error - 1) < 1e-2,
                 qPrintable(QString::number(report.pplError, 'g', 9)));
    }
    void q8DivergesAsFarAsInTheOtherEngine() {
        NIBBLE_NEED_SHARED("oracles/perplexity");
        const auto folder = openModel(test::sharedPath("models/TinyStories-656K"));
        const auto gguf =
            openModel(test::sharedPath("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf"));
        const auto tokens =
            tokenize(*gguf->tokenizer,
                     evaluationTextFile(test::sharedPath("oracles/perplexity/stories-ascii.txt")));
        EvaluateOptions options;
        options.context = 256;
        const auto base = run(folder, Recipe{});
        const auto int8 = run(gguf, withActivations("int8"));
        const QualityReport report = measureQuality(*int8, base.get(), tokens, options);
        qInfo("int8 activations: kld %.7f ± %.7f, max %.5f, same top %.3f %%, ppl %.6f",
              report.kldMean, report.kldError, report.kldMax, report.sameTop * 100, report.ppl);
        QVERIFY2(std::abs(report.kldMean / 0.000859 - 1) < 0.03, "mean KLD with INT8 activations");
        QVERIFY2(std::abs(report.sameTop - 0.97478) < 3 * report.sameTopError, "same top");
        // Its perplexity differs by chance alone: two engines round activations independently, and
        // the mean log-probability of N tokens then has a deviation of √(2 · KLD / N) in each.
        const double chance = std::sqrt(2 * 2 * report.kldMean / double(report.tokens));
        QVERIFY2(std::abs(std::log(report.ppl / 146.989707)) < 3 * chance,
                 qPrintable(QString("ppl %1, %2 of chance")
                                .arg(report.ppl)
                                .arg(std::log(report.ppl / 146.989707) / chance)));

        const auto floats = run(gguf, withActivations("float"));
        const QualityReport quiet = measureQuality(*floats, base.get(), tokens, options);
        qInfo("float activations: kld %.7f ± %.7f", quiet.kldMean, quiet.kldError);
        QVERIFY2(std::abs(quiet.kldMean / 0.00037 - 1) < 0.05, "mean KLD with float activations");
    }
    void aModelDoesNotDivergeFromItself() {
        const auto model = makeSyntheticModel("tiny");
        EvaluationTokens tokens{"random", 0, {}, -1};
        for (int i = 0; i < 300; ++i)
            tokens.tokens.push_back((i * 37 + i * i) % 256);
        EvaluateOptions options;
        options.context = 64;
        options.layers = true;
        const auto a = run(model, Recipe{}, 64), b = run(model, Recipe{}, 64);
        const QualityReport report = measureQuality(*a, b.get(), tokens, options);
        QCOMPARE(report.kldMean, 0.0);
        QCOMPARE(report.kldMax, 0.0);
        QCOMPARE(report.sameTop, 1.0);
        QCOMPARE(report.pplRatio, 1.0);
        QCOMPARE(report.windows, 4);
        QCOMPARE(report.tokens, int64_t(4 * 31));
        QCOMPARE(report.layers.size(), size_t(2));
        for (const LayerError& layer : report.layers)
            QCOMPARE(layer.relativeError, 0.0);

        const auto coarse = run(model, levelRecipe("int4", *model), 64);
        const QualityReport worse = measureQuality(*coarse, b.get(), tokens, options);
        QVERIFY(worse.kldMean > 0);
        QVERIFY(worse.layers[1].relativeError > 0 && worse.layers[1].cosine < 1);
    }
    void shortTextsAndCancelAreSentences() {
        const auto model = makeSyntheticModel("tiny");
        const auto runner = run(model, Recipe{}, 64);
        EvaluateOptions options;
        options.context = 64;
        EvaluationTokens tokens{"short", 0, std::vector<TokenId>(63, 1), -1};
        try {
            measureQuality(*runner, nullptr, tokens, options);
            QFAIL("a text shorter than a window must be refused");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 3);
        }
        tokens.tokens.assign(640, 1);
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(true);
        try {
            measureQuality(*runner, nullptr, tokens, options, progress);
            QFAIL("a cancelled measurement must stop");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 7);
        }
    }
    void theLadderRanksLevelsByDivergence() {
        NIBBLE_NEED_SHARED("models/stories260K-f32.gguf");
        const auto model = openModel(test::sharedPath("models/stories260K-f32.gguf"));
        LadderOptions options;
        options.device = "cpu";
        options.context = 128;
        options.evaluate.context = 128;
        options.evaluate.chunks = 4;
        options.levels = {"f16", "q8_0", "int4"};
        int landed = 0;
        const auto rows = measureLadder(
            model, evaluationTextFile(test::sharedPath("oracles/perplexity/stories.txt")), options,
            {}, [&](const LadderRow&) { ++landed; });
        QCOMPARE(landed, 3);
        for (const LadderRow& row : rows)
            QVERIFY2(row.measured && row.fits && row.generateTps > 0, row.problem.c_str());
        QVERIFY(rows[0].quality.kldMean < rows[1].quality.kldMean);
        QVERIFY(rows[1].quality.kldMean < rows[2].quality.kldMean);
        QVERIFY(rows[0].size.bytes > rows[1].size.bytes && rows[1].size.bytes > rows[2].size.bytes);
    }
};

QTEST_GUILESS_MAIN(TestPerplexity)
#include "test_perplexity.moc"
