// ctest: FIXTURES_REQUIRED=calibration COST=70
#include "core/serve/engine.h"

#include "core/base/resources.h"
#include "tests/support/kept_calibration.h"
#include "tests/support/shared_data.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>

using namespace nibble;

namespace {

constexpr const char* kModel = "models/stories260K-f32.gguf";

std::shared_ptr<const Model> stories() {
    return openModel(test::sharedPath(kModel));
}

EngineOptions onCpu(int32_t context = 256) {
    EngineOptions options;
    options.device = "cpu";
    options.context = context;
    return options;
}

ChatRequest greedy(const std::string& prompt, int32_t tokens) {
    ChatRequest request;
    request.rawPrompt = prompt;
    request.options.sampler.temperature = 0;
    request.options.maxTokens = tokens;
    return request;
}

} // namespace

class TestEngine : public QObject {
    Q_OBJECT
private slots:
    void initTestCase() { NIBBLE_NEED_SHARED(kModel); }

    void greedyTextEqualsTheGolden() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        std::string streamed;
        const auto result = engine.chat(greedy("Once upon a time", 40), {},
                                        [&](std::string_view text, TokenId) { streamed += text; });
        const QString golden =
            ", there was a little girl named Lily. She loved to play outside in the park. One day, "
            "she saw a big, red ball.";
        QVERIFY2(QString::fromStdString(result.text).startsWith(golden), result.text.c_str());
        QCOMPARE(streamed, result.text);
        QVERIFY(result.promptTps > 0 && result.generateTps > 0 && result.firstTokenMs > 0);
    }
    void reusedPrefixAnswersLikeAFreshRun() {
        Engine engine, fresh;
        engine.open(stories(), {}, onCpu());
        fresh.open(stories(), {}, onCpu());
        const std::string first = "Once upon a time there was a dog";
        engine.chat(greedy(first, 24));
        const auto request = greedy(first + ". The dog was sad", 24);
        const auto again = engine.chat(request);
        const auto expected = fresh.chat(request);
        QVERIFY(again.reusedTokens > 0);
        QCOMPARE(expected.reusedTokens, 0);
        QCOMPARE(again.tokens, expected.tokens);
    }
    void sameSeedSameAnswer() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        ChatRequest request = greedy("The cat", 24);
        request.options.sampler.temperature = 1.2;
        request.options.sampler.seed = 5;
        const auto first = engine.chat(request);
        QCOMPARE(engine.chat(request).tokens, first.tokens);
        request.options.sampler.seed = 0;
        QVERIFY(engine.chat(request).seed != 0);
    }
    void fullContextEndsTheAnswer() {
        Engine engine;
        engine.open(stories(), {}, onCpu(32));
        ChatRequest request = greedy("Once upon a time", 100);
        request.options.stopAtEnd = false;
        const auto result = engine.chat(request);
        QVERIFY(result.stop == GenerateResult::Stop::ContextFull);
        QCOMPARE(engine.contextUsed(), 32);
        QCOMPARE(result.promptTokens + static_cast<int32_t>(result.tokens.size()), 33);
        QVERIFY_EXCEPTION_THROWN(engine.chat(greedy(std::string(200, 'x'), 1)), Error);
    }
    void cancellingKeepsTheText() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        int pieces = 0;
        const auto result =
            engine.chat(greedy("Once upon a time", 100), progress, [&](std::string_view, TokenId) {
                if (++pieces == 5)
                    progress.cancel->store(true);
            });
        QVERIFY(result.stop == GenerateResult::Stop::Cancelled);
        QVERIFY(!result.text.empty());
        const auto whole = engine.chat(greedy("Once upon a time", 40));
        QVERIFY(QString::fromStdString(whole.text).startsWith(QString::fromStdString(result.text)));
    }
    void applyInTheMiddleEqualsAFreshLoad() {
        const Recipe level = levelRecipe("int4", *stories());
        const ChatRequest first = greedy("Once upon a time", 16);
        Engine engine;
        engine.open(stories(), {}, onCpu());
        const std::string answer = engine.chat(first).text;
        engine.apply(level, onCpu());
        QVERIFY(engine.contextUsed() > 0);
        const auto next = greedy("Once upon a time" + answer + " Then", 24);
        const auto after = engine.chat(next);
        QCOMPARE(after.reusedTokens, 0);
        Engine fresh;
        fresh.open(stories(), level, onCpu());
        QCOMPARE(after.tokens, fresh.chat(next).tokens);
        // The plan speaks of what runs now.
        QCOMPARE(engine.plan().parts[0].use.weights, fresh.plan().parts[0].use.weights);
        // And back again: the base answers as it did.
        engine.apply({}, onCpu());
        QCOMPARE(engine.chat(first).text, answer);
    }
    void failedApplyLeavesTheOldVariantRunning() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        const ChatRequest request = greedy("Once upon a time", 16);
        const std::string before = engine.chat(request).text;
        Progress cancelled;
        cancelled.cancel = std::make_shared<std::atomic<bool>>(true);
        QVERIFY_EXCEPTION_THROWN(engine.apply(levelRecipe("int4", *stories()), onCpu(), cancelled),
                                 Error);
        Recipe unknown;
        unknown.rules.push_back({.match = "*", .format = "no_such_format"});
        QVERIFY_EXCEPTION_THROWN(engine.apply(unknown, onCpu()), Error);
        EngineOptions elsewhere = onCpu();
        elsewhere.device = "no-such-device";
        QVERIFY_EXCEPTION_THROWN(engine.apply({}, elsewhere), Error);
        QVERIFY(engine.recipe().rules.empty());
        QCOMPARE(engine.chat(request).text, before);
    }
    void anotherCacheFormatRebuildsTheRunner() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        const uint64_t half = engine.usedMemory().use.kv;
        EngineOptions options = onCpu();
        options.kv = KvFormat::F32;
        engine.apply({}, options);
        QVERIFY(engine.usedMemory().use.kv > half);
        QVERIFY(!engine.chat(greedy("Once", 4)).tokens.empty());
    }
    void predictionAgreesWithUse() {
        // Large enough for rows that layouts pad to count for little.
        const auto model = openModel(sampleModelPath());
        Engine engine;
        for (const char* level : {"f16", "int8", "q8_0", "int4", "int4_g128"}) {
            const Recipe recipe = levelRecipe(level, *model);
            engine.open(model, recipe, onCpu());
            const auto predicted =
                Engine::predictedMemory(*model, recipe, onCpu(), engine.device());
            const double used = static_cast<double>(engine.usedMemory().use.total());
            const double difference = std::abs(double(predicted.use.total()) - used) / used;
            QVERIFY2(difference < 0.05, qPrintable(QString("%1: %2 predicted, %3 used")
                                                       .arg(level)
                                                       .arg(predicted.use.total())
                                                       .arg(used)));
        }
    }
    void measuringGivesLossAgainstTheBase() {
        Engine engine;
        engine.open(stories(), {}, onCpu());
        std::string text;
        for (int i = 0; i < 40; ++i)
            text += "Once upon a time there was a little dog. He liked to play in the park. ";
        EvaluateOptions options;
        options.context = 128;
        options.chunks = 2;
        const auto report =
            engine.measure(levelRecipe("int4", *stories()), {"test", text}, options);
        QVERIFY(report.hasReference);
        QVERIFY(report.kldMean > 0);
        QCOMPARE(report.level, std::string("int4"));
        const auto base = engine.measure({}, {"test", text}, options);
        QVERIFY(base.kldMean < report.kldMean);
    }
    /// Levels that look at data are made anew when it is other data, and only they.
    void anotherCalibrationIsApplied() {
        const test::KeptCalibration kept;
        QTemporaryDir folder;
        QFile file(folder.filePath("own.txt"));
        QVERIFY(file.open(QIODevice::WriteOnly));
        for (int i = 0; i < 200; ++i)
            file.write("Nothing but numbers: 1 2 3 5 8 13 21 34 55 89 144 233 377 610. ");
        file.close();
        EngineOptions own = onCpu();
        own.calibration = file.fileName().toStdString();
        Engine engine;
        const auto model = openModel(sampleModelPath());
        const auto answer = [&](const char* level, const EngineOptions& options) {
            engine.apply(levelRecipe(level, *model), options);
            ChatRequest request;
            request.rawPrompt = "Once upon a time";
            request.options.maxTokens = 1;
            request.options.sampler.temperature = 0;
            engine.chat(request);
            return engine.promptLoss(request).kld;
        };
        engine.open(model, {}, onCpu());
        const double shipped = answer("gptq", onCpu());
        QVERIFY(answer("gptq", own) != shipped);
        QCOMPARE(answer("gptq", onCpu()), shipped);
        const double rounded = answer("int4", onCpu());
        QCOMPARE(answer("int4", own), rounded);
    }
};

QTEST_GUILESS_MAIN(TestEngine)
#include "test_engine.moc"
