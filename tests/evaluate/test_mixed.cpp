// ctest: FIXTURES_REQUIRED=calibration TIMEOUT=900 COST=250
#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/evaluate/ladder.h"
#include "core/evaluate/mixed.h"
#include "core/evaluate/quality.h"
#include "core/model/names.h"
#include "core/quant/apply.h"
#include "tests/support/kept_calibration.h"
#include "tests/support/mixture_model.h"
#include "tests/support/patience.h"

#include <QDir>
#include <QElapsedTimer>
#include <QFile>
#include <QTest>

#include <fstream>
#include <random>

using namespace nibble;

namespace {

const std::shared_ptr<const Model>& sample() {
    static const auto model = openModel(sampleModelPath());
    return model;
}

constexpr int32_t kContext = 256, kWindows = 8, kMeasured = 15;
/// Of the levels every so many, and of the recipes as much fewer: a sanitizer takes ten times as
/// long.
constexpr int kEvery = test::kPatience > 1 ? 5 : 1;

PredictorOptions options() {
    PredictorOptions options;
    options.sensitivity.device = "cpu";
    options.sensitivity.context = kContext;
    options.sensitivity.windows = kWindows;
    return options;
}

/// Measured once, and kept in this test's own folder.
LossPredictor& predictor() {
    static LossPredictor made(sample(), options());
    return made;
}
const MixedPlanner& planner() {
    static const MixedPlanner made(predictor());
    return made;
}

/// Recipes measured against the base, on other text than anything that predictions come from.
class Measuring {
public:
    Measuring() {
        RunOptions run;
        run.placement = placeAll(*sample(), openCpu());
        run.context = kContext;
        m_base = std::make_unique<Runner>(sample(), run);
        m_variant = std::make_unique<Runner>(sample(), run);
        nibble::applyRecipe(*m_base, {});
        // Windows from all over the text, between those that predictions are corrected with.
        const std::vector<TokenId> all = std::move(m_tokens.tokens);
        const size_t stride = all.size() / kContext / kMeasured;
        m_tokens.tokens.clear();
        for (size_t i = 0; i < kMeasured; ++i) {
            const auto at = all.begin() + static_cast<ptrdiff_t>((i * stride + 1) * kContext);
            m_tokens.tokens.insert(m_tokens.tokens.end(), at, at + kContext);
        }
    }
    QualityReport measure(const Recipe& recipe) {
        nibble::applyRecipe(*m_variant, recipe, nullptr, {}, calibrationFor(sample(), recipe));
        EvaluateOptions evaluate;
        evaluate.context = kContext;
        evaluate.chunks = kMeasured;
        return measureQuality(*m_variant, m_base.get(), m_tokens, evaluate, {}, {}, &m_kept);
    }

private:
    std::unique_ptr<Runner> m_base, m_variant;
    EvaluationTokens m_tokens = tokenize(*sample()->tokenizer, shippedEvaluationText());
    BaseLogits m_kept;
};
Measuring& measuring() {
    static Measuring made;
    return made;
}

/// Each tensor from a random part of the formats, so that recipes differ in size and in how even
/// they are.
Recipe randomRecipe(std::mt19937& random) {
    static const std::vector<const char*> formats = {"q2_k", "q3_k",    "iq4_xs",   "q4_k", "q5_k",
                                                     "q6_k", "nibble4", "int4_g64", "q8_0", "nf4"};
    const size_t first = random() % 9, count = 1 + random() % (formats.size() - first);
    Recipe recipe;
    recipe.name = "random";
    for (const TensorSensitivity& tensor : predictor().sensitivities().tensors)
        recipe.rules.push_back({.match = tensorName(tensor.key),
                                .format = formats[first + random() % count],
                                .method = random() % 2 ? "gptq" : "rtn",
                                .activations = "int8"});
    return recipe;
}

/// The measured loss lies within the stated error, its own included.
void checkPrediction(const QString& name, const Recipe& recipe) {
    const Prediction predicted = predictor().predict(recipe);
    const QualityReport measured = measuring().measure(recipe);
    const QString line = QStringLiteral("%1, %2 bits: predicted %3 ± %4, measured %5 ± %6")
                             .arg(name)
                             .arg(recipeSize(*sample(), recipe).bitsPerWeight, 0, 'f', 2)
                             .arg(predicted.kld, 0, 'g', 3)
                             .arg(predicted.error, 0, 'g', 2)
                             .arg(measured.kldMean, 0, 'g', 3)
                             .arg(measured.kldError, 0, 'g', 2);
    qInfo("%s", qPrintable(line));
    // An error so large that it says nothing would hold, too.
    QVERIFY(predicted.error < predicted.kld + 1e-4);
    QVERIFY2(std::abs(measured.kldMean - predicted.kld) <=
                 std::hypot(predicted.error, 2 * measured.kldError),
             qPrintable(line));
}

} // namespace

class TestMixed : public QObject {
    Q_OBJECT
private slots:
    /// Twenty random recipes: the measured loss lies within the stated error, its own included.
    void predictionsHoldForRandomRecipes() {
        std::mt19937 random(20261127);
        for (int i = 0; i < 20 / kEvery; ++i)
            checkPrediction(QStringLiteral("recipe %1").arg(i), randomRecipe(random));
    }

    /// What is chosen because it is predicted to lose little is where a prediction is too low most
    /// easily.
    void predictionsHoldForMixedRecipes() {
        for (const double bits : {3.0, 3.5, 4.0, 4.5, 5.0, 6.0})
            checkPrediction(QStringLiteral("mixed"),
                            planner().plan({Budget::Of::Bits, bits}).recipe);
    }

    void predictionsHoldForLevels_data() {
        QTest::addColumn<QByteArray>("level");
        int at = 0;
        for (const Level& level : levels())
            if (at++ % kEvery == 0)
                QTest::newRow(level.name) << QByteArray(level.name);
    }
    void predictionsHoldForLevels() {
        QFETCH(QByteArray, level);
        checkPrediction(QString::fromUtf8(level), levelRecipe(level.constData(), *sample()));
    }

    void budgetsAreKept_data() {
        QTest::addColumn<int>("of");
        QTest::addColumn<double>("value");
        const auto weights = static_cast<double>(sample()->parameters());
        for (const double bits : {3.0, 4.0, 4.5, 6.0, 8.2})
            QTest::addRow("%.1f bits", bits) << int(Budget::Of::Bits) << bits;
        QTest::newRow("bytes") << int(Budget::Of::Bytes) << weights * 5 / 8;
        QTest::newRow("memory") << int(Budget::Of::Memory) << weights * 5 / 8;
        for (const double loss : {1e-4, 1e-3, 5e-3})
            QTest::addRow("KLD %g", loss) << int(Budget::Of::Loss) << loss;
    }
    void budgetsAreKept() {
        QFETCH(int, of);
        QFETCH(double, value);
        const Budget budget{static_cast<Budget::Of>(of), value};
        planner();
        QElapsedTimer timer;
        timer.start();
        const MixedPlan plan = planner().plan(budget);
        QVERIFY(timer.elapsed() < 50);
        QVERIFY(plan.kept);
        const RecipeSize size = recipeSize(*sample(), plan.recipe);
        QCOMPARE(size.bytes, plan.size.bytes);
        const double taken = budget.of == Budget::Of::Bits     ? size.bitsPerWeight
                             : budget.of == Budget::Of::Bytes  ? double(size.bytes)
                             : budget.of == Budget::Of::Memory ? double(size.residentBytes)
                                                               : plan.prediction.kld;
        QVERIFY(taken <= value);
        QVERIFY2(taken > 0.97 * value || plan.size.bytes >= planner().mostBytes(),
                 qPrintable(QString::number(taken)));
    }

    void moreBytesLoseLess() {
        double before = 1e9;
        for (double bits = 2.8; bits < 9; bits += 0.1) {
            const MixedPlan plan = planner().plan({Budget::Of::Bits, bits});
            QVERIFY(plan.prediction.kld <= before * 1.02);
            before = plan.prediction.kld;
        }
    }

    void whatCannotBeKeptIsSaid() {
        QVERIFY(!planner().plan({Budget::Of::Bits, 1}).kept);
        QVERIFY(!planner().plan({Budget::Of::Bytes, 10}).kept);
        const auto sentence = [](const Budget& budget) -> QString {
            try {
                mixedPlan(sample(), budget, options());
            } catch (const Error& error) {
                return QString::fromUtf8(error.what());
            }
            return {};
        };
        QVERIFY(sentence({Budget::Of::Bits, 1}).contains("the smallest takes"));
    }

    /// At the size of the level of one format throughout, and beyond two standard errors of the
    /// difference (taken as if both were measured on different tokens, which they are not).
    void mixedBeatsNibble4() {
        const Recipe even = levelRecipe("nibble4", *sample());
        const RecipeSize size = recipeSize(*sample(), even);
        const MixedPlan plan = planner().plan({Budget::Of::Bytes, static_cast<double>(size.bytes)});
        QVERIFY(plan.size.bytes <= size.bytes);
        const QualityReport mixed = measuring().measure(plan.recipe),
                            nibble4 = measuring().measure(even);
        QVERIFY(mixed.kldMean + 2 * std::hypot(mixed.kldError, nibble4.kldError) < nibble4.kldMean);
    }

    void ggufRecipesCanBeExported() {
        const MixedPlan plan = planner().plan({Budget::Of::Bits, 4.5});
        for (const TensorKey key : sample()->keys())
            if (const Format* format = plan.recipe.choose(*sample(), key).format)
                QVERIFY2(blockTypeOf(*format), format->name);
    }

    /// Stopped half-way and started again: what was measured is not measured a second time, and the
    /// end is the same.
    void anInterruptedMeasurementGoesOn() {
        const SensitivityTexts text{shippedCalibrationText(), shippedEvaluationText()};
        SensitivityOptions few;
        few.device = "cpu";
        few.context = 64;
        few.windows = 1;
        const auto calibration = [](const Progress& progress) {
            return sharedCalibration(sample(), progress);
        };
        const Sensitivities whole = measureSensitivities(sample(), text, calibration, few);
        Progress stopping;
        stopping.cancel = std::make_shared<std::atomic<bool>>(false);
        Sensitivities kept;
        QVERIFY_EXCEPTION_THROWN(measureSensitivities(sample(), text, calibration, few, {},
                                                      stopping,
                                                      [&](const Sensitivities& partial) {
                                                          kept = partial;
                                                          if (partial.tensors.size() > 40)
                                                              *stopping.cancel = true;
                                                      }),
                                 Error);
        QVERIFY(kept.tensors.size() > 40 && kept.tensors.size() < whole.tensors.size());
        double first = -1;
        Progress watching;
        watching.onReport = [&](double done, double, std::string_view) {
            if (first < 0 && done > 0)
                first = done;
        };
        int layers = 0;
        const size_t before = kept.tensors.size();
        const Sensitivities resumed =
            measureSensitivities(sample(), text, calibration, few, kept, watching,
                                 [&](const Sensitivities&) { ++layers; });
        QVERIFY(layers < 9);
        QCOMPARE(resumed.tensors.size(), whole.tensors.size());
        QVERIFY(before < resumed.tensors.size());
        for (size_t i = 0; i < whole.tensors.size(); ++i) {
            QCOMPARE(resumed.tensors[i].key, whole.tensors[i].key);
            QCOMPARE(resumed.tensors[i].points.front().kld, whole.tensors[i].points.front().kld);
        }
        QCOMPARE(resumed.together.back().measured, whole.together.back().measured);
    }

    void whatCannotBeMadeHasNoSize() {
        LadderOptions ladder;
        ladder.levels = {"mixed"};
        ladder.mixed = {Budget::Of::Bits, 0.5};
        ladder.device = "cpu";
        ladder.evaluate.context = kContext;
        ladder.evaluate.chunks = kWindows;
        ladder.speed = false;
        const auto rows = measureLadder(sample(), shippedEvaluationText(), ladder);
        QVERIFY(!rows.front().measured && !rows.front().fits);
        QVERIFY2(rows.front().problem.starts_with("No recipe is that small"),
                 rows.front().problem.c_str());
        QCOMPARE(rows.front().size.bytes, uint64_t(0));
    }

    void whatIsKeptIsReadAgain() {
        LossModel known;
        known.sensitivities = predictor().sensitivities();
        known.errors["q4_k rtn int8"][{Role::Up, 3}] = {0.25, 0.5};
        const QString path = m_cache.filePath("losses.json");
        QFile file(path);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(QByteArray::fromStdString(lossModelJson(known)));
        file.close();
        const auto again = readLossModel(path.toStdString());
        QVERIFY(again.has_value());
        QCOMPARE(lossModelJson(*again), lossModelJson(known));
        QCOMPARE(again->errors.at("q4_k rtn int8").at({Role::Up, 3}).lookup, 0.5);
        // The predictor finds what another one left: no tensor is measured again.
        int reports = 0;
        Progress watching;
        watching.onReport = [&](double, double, std::string_view) { ++reports; };
        const LossPredictor second(sample(), options(), watching);
        QCOMPARE(reports, 0);
        QCOMPARE(second.sensitivities().tensors.size(), known.sensitivities.tensors.size());
    }

    /// Experts of a layer have one format, and are measured as one.
    void expertsAreMeasuredTogether() {
        const std::string path = m_cache.filePath("mixture.gguf").toStdString();
        const std::string bytes = test::mixtureModel({});
        std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
        const auto model = openModel(path);
        const auto experts = size_t(model->config.experts);
        QVERIFY(experts > 1);
        Sensitivities known;
        for (const TensorKey key : model->keys())
            if (isMatrix(key.role) && measuredWith(*model, key).front() == key)
                known.tensors.push_back({.key = key, .points = {{0.5, double(key.layer)}}});
        size_t matrices = 0;
        for (const TensorKey key : model->keys()) {
            if (!isMatrix(key.role))
                continue;
            ++matrices;
            const std::vector<TensorKey> all = measuredWith(*model, key);
            QCOMPARE(all.size(), key.expert >= 0 ? experts : size_t(1));
            QVERIFY(std::ranges::find(all, key) != all.end());
            QVERIFY(known.find(key) && known.find(key)->key == all.front());
        }
        const auto layers = size_t(model->config.layers);
        QCOMPARE(known.tensors.size(), matrices - 3 * layers * (experts - 1));
        // The mean weighs experts by the tokens that chose them; those that none chose say nothing.
        Calibration calibration;
        const auto seen = [&](int32_t expert, int64_t tokens) {
            InputStatistics& input = calibration.inputs[{Role::Down, 0, expert}];
            input.tokens = tokens;
            input.meanSquare.assign(size_t(model->get({Role::Down, 0, 0}).cols()), 1.0f);
        };
        seen(0, 0), seen(1, 30), seen(2, 10);
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int4_g32"});
        Quantizer quantizer(*model, recipe, nullptr);
        const auto one = [&](int32_t expert) {
            return outputError(quantizer, *model, recipe, calibration, {Role::Down, 0, expert});
        };
        const double expected = (30 * one(1).product + 10 * one(2).product) / 40;
        const double found =
            errorTogether(quantizer, *model, recipe, calibration, {Role::Down, 0, 0}).product;
        QVERIFY2(std::abs(found - expected) < 1e-12 && found > 0,
                 qPrintable(QString::number(found)));
    }

    void damagedFilesAreAsGoodAsNone() {
        const QByteArray whole =
            QByteArray::fromStdString(lossModelJson({predictor().sensitivities(), {}}));
        const QString path = m_cache.filePath("damaged.json");
        const auto read = [&](const QByteArray& bytes) {
            QFile file(path);
            [&] { QVERIFY(file.open(QIODevice::WriteOnly)); }();
            file.write(bytes);
            file.close();
            return readLossModel(path.toStdString()).has_value();
        };
        QVERIFY(read(whole));
        QVERIFY(!read({}));
        QVERIFY(!read("[]"));
        for (int length = 1; length < whole.size(); length += 97)
            QVERIFY(!read(whole.left(length)));
        QVERIFY(!read(QByteArray(whole).replace("\"version\":", "\"version\":9")));
        QVERIFY(!read(QByteArray(whole).replace("blk.3.ffn_up", "blk.3.ffn_oops")));
        QVERIFY(!readLossModel(m_cache.filePath("absent.json").toStdString()));
    }

private:
    const test::KeptCalibration m_cache;
};

QTEST_GUILESS_MAIN(TestMixed)
#include "test_mixed.moc"
