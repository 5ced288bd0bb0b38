#include "core/serve/speculation.h"

#include "core/base/resources.h"
#include "core/quant/apply.h"
#include "core/serve/generate.h"

#include <QTest>

using namespace nibble;

namespace {

using Tokens = std::vector<TokenId>;

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(sampleModelPath());
    return model;
}

Runner& runnerOf(int32_t context) {
    static std::map<int32_t, std::unique_ptr<Runner>> runners;
    std::unique_ptr<Runner>& runner = runners[context];
    if (!runner) {
        RunOptions options;
        options.placement = placeAll(*sample(), openDevice("cpu"));
        options.context = context;
        options.sessions = 2;
        runner = std::make_unique<Runner>(sample(), options);
        applyRecipe(*runner, levelRecipe("int4", *sample()));
    }
    return *runner;
}

/// A prompt that is likely to be answered with what stands in it.
Tokens repeating() {
    std::string text;
    for (int i = 0; i < 4; ++i)
        text += "The quick brown fox jumps over the lazy dog near the river bank. ";
    return sample()->tokenizer->encode(text, true);
}

} // namespace

class TestSpeculation : public QObject {
    Q_OBJECT
private slots:
    void whatFollowedIsFound_data() {
        QTest::addColumn<Tokens>("tokens");
        QTest::addColumn<int>("most");
        QTest::addColumn<Tokens>("guess");
        QTest::newRow("nothing") << Tokens{} << 8 << Tokens{};
        QTest::newRow("too short") << Tokens{1, 1} << 8 << Tokens{};
        QTest::newRow("never seen") << Tokens{1, 2, 3, 4} << 8 << Tokens{};
        QTest::newRow("one token alone says too little") << Tokens{1, 2, 3, 4, 2} << 8 << Tokens{};
        QTest::newRow("two") << Tokens{1, 2, 7, 4, 1, 2} << 8 << Tokens{7, 4, 1, 2};
        QTest::newRow("so many") << Tokens{1, 2, 7, 4, 1, 2} << 2 << Tokens{7, 4};
        QTest::newRow("the last place") << Tokens{1, 2, 7, 1, 2, 8, 1, 2} << 1 << Tokens{8};
        QTest::newRow("three before two")
            << Tokens{5, 1, 2, 7, 1, 2, 8, 5, 1, 2} << 2 << Tokens{7, 1};
        QTest::newRow("itself") << Tokens{3, 3, 3} << 8 << Tokens{3};
        QTest::newRow("at the start") << Tokens{1, 2, 9, 1, 2} << 1 << Tokens{9};
        QTest::newRow("none wanted") << Tokens{1, 2, 7, 4, 1, 2} << 0 << Tokens{};
    }
    void whatFollowedIsFound() {
        QFETCH(Tokens, tokens);
        QFETCH(int, most);
        QFETCH(Tokens, guess);
        QCOMPARE(lookUp(tokens, most), guess);
    }

    void rowsArePaidFor() {
        DraftWidth fresh;
        QCOMPARE(fresh.rows(16), 1); // what one row takes is measured first
        const auto widthWith = [](double share, double eachRow) {
            DraftWidth width;
            for (int32_t rows = 1; rows <= 16; rows *= 2)
                width.took(rows, 1 + eachRow * (rows - 1));
            for (int i = 0; i < 1000; ++i)
                width.guessed((i * 7919) % 1000 < share * 1000);
            return width.rows(16);
        };
        QCOMPARE(widthWith(1, 0), 16);      // always right and free
        QCOMPARE(widthWith(1, 0.5), 16);    // 16 tokens for 8.5 passes
        QCOMPARE(widthWith(0, 0.01), 1);    // never right
        QCOMPARE(widthWith(0.9, 1), 1);     // rows cost as much as passes
        QCOMPARE(widthWith(0.5, 0.9), 1);   // 1.5 tokens for 1.9 passes
        QVERIFY(widthWith(0.7, 0.05) >= 4); // 2.5 tokens for 1.15
        DraftWidth narrow;
        narrow.took(1, 1);
        QCOMPARE(narrow.rows(1), 1);
        QVERIFY(narrow.rows(3) <= 2);
    }

    /// Token for token, whatever the sampler, wherever it ends, and what the session then holds.
    void answersAreTheSame_data() {
        QTest::addColumn<double>("temperature");
        QTest::addColumn<int>("context");
        QTest::addColumn<int>("maxTokens");
        QTest::newRow("greedy") << 0.0 << 512 << 150;
        QTest::newRow("sampled") << 0.6 << 512 << 150;
        QTest::newRow("hot, so that guesses fail") << 1.5 << 512 << 150;
        QTest::newRow("the context fills") << 0.0 << 96 << 400;
        for (int tokens = 1; tokens < 9; ++tokens)
            QTest::addRow("%d tokens", tokens) << 0.0 << 512 << tokens;
    }
    void answersAreTheSame() {
        QFETCH(double, temperature);
        QFETCH(int, context);
        QFETCH(int, maxTokens);
        Runner& runner = runnerOf(context);
        Tokens prompt = repeating();
        QVERIFY(prompt.size() > 60);
        prompt.resize(std::min(prompt.size(), static_cast<size_t>(context - 20)));
        GenerateOptions options;
        options.sampler.temperature = temperature;
        options.sampler.seed = 7;
        options.maxTokens = maxTokens;
        options.stopAtEnd = false;
        Conversation plain{runner.newSession(), {}}, guessing{runner.newSession(), {}};
        for (int turn = 0; turn < 2; ++turn) {
            options.speculate = false;
            const GenerateResult one = generate(runner, plain, prompt, options);
            options.speculate = true;
            const GenerateResult many = generate(runner, guessing, prompt, options);
            QCOMPARE(many.tokens, one.tokens);
            QCOMPARE(many.text, one.text);
            QCOMPARE(many.stop, one.stop);
            QCOMPARE(one.guessedTokens, 0);
            QVERIFY(many.rightGuesses <= many.guessedTokens);
            if (maxTokens > 100 && temperature == 0)
                QVERIFY2(many.rightGuesses > 10, qPrintable(QString::number(many.rightGuesses)));
            QCOMPARE(guessing.tokens, plain.tokens);
            QCOMPARE(guessing.session.length(), plain.session.length());
            // The next turn begins within what was said.
            prompt = plain.tokens;
            prompt.resize(prompt.size() - std::min<size_t>(prompt.size() / 3, 9));
            prompt.insert(prompt.end(), {11, 12, 13});
            prompt.resize(std::min(prompt.size(), static_cast<size_t>(context - 20)));
        }
    }

    /// What a stopped answer leaves is what was said, and the conversation goes on.
    void stoppedAnswersLeaveNoGuesses() {
        Runner& runner = runnerOf(512);
        const Tokens prompt = repeating();
        GenerateOptions options;
        options.sampler.temperature = 0;
        options.maxTokens = 100;
        options.stopAtEnd = false;
        Conversation stopped{runner.newSession(), {}}, whole{runner.newSession(), {}};
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        int pieces = 0;
        const GenerateResult part =
            generate(runner, stopped, prompt, options, progress, [&](std::string_view, TokenId) {
                if (++pieces == 20)
                    progress.cancel->store(true);
            });
        QCOMPARE(part.stop, GenerateResult::Stop::Cancelled);
        QCOMPARE(stopped.session.length(), static_cast<int32_t>(stopped.tokens.size()));
        const GenerateResult all = generate(runner, whole, prompt, options);
        QVERIFY(part.tokens.size() < all.tokens.size());
        QVERIFY(std::equal(part.tokens.begin(), part.tokens.end(), all.tokens.begin()));
        const GenerateResult again = generate(runner, stopped, prompt, options);
        QCOMPARE(again.tokens, all.tokens);
    }
};

QTEST_GUILESS_MAIN(TestSpeculation)
#include "test_speculation.moc"
