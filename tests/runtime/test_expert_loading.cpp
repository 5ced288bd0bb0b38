// Experts that are made when a token chooses them, within a budget of bytes.
#include "core/base/error.h"
#include "core/quant/apply.h"
#include "core/runtime/memory.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/mixture_model.h"

#include <QTemporaryDir>
#include <QTest>

#include <fstream>

using namespace nibble;
using namespace nibble::test;

namespace {

std::vector<TokenId> someTokens(int count) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i)
        tokens.push_back((i * 29 + 7 * i * i + 3) % 64);
    return tokens;
}

RunOptions optionsFor(const Model& model, uint64_t budget) {
    RunOptions options;
    options.placement = placeAll(model, openCpu());
    options.context = 128;
    options.sessions = 2;
    options.maxRows = 16;
    options.kFormat = options.vFormat = KvFormat::F32;
    options.expertBudget = budget;
    return options;
}

std::unique_ptr<Runner> made(std::shared_ptr<const Model> model, RunOptions options,
                             const Recipe& recipe = {}) {
    auto runner = std::make_unique<Runner>(model, std::move(options));
    applyRecipe(*runner, recipe);
    return runner;
}

std::vector<float> logitsOf(Runner& runner, const std::vector<TokenId>& tokens,
                            bool oneByOne = false) {
    Session session = runner.newSession();
    if (!oneByOne)
        return runner.append(session, tokens, true);
    std::vector<float> all;
    for (const TokenId token : tokens) {
        const auto row = runner.append(session, {&token, 1});
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

Recipe rounding(const char* format) {
    Recipe recipe;
    recipe.rules.push_back({.match = "*", .format = format});
    return recipe;
}

} // namespace

class TestExpertLoading : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;
    std::filesystem::path m_path;
    std::string m_bytes = mixtureModel({});
    std::shared_ptr<const Model> m_model;
    std::vector<TokenId> m_tokens = someTokens(24);

    static uint64_t oneExpert() { return MixtureShape{}.expertBytes() / MixtureShape{}.experts; }
    static uint64_t allExperts() { return MixtureShape{}.expertBytes() * MixtureShape{}.layers; }

private slots:
    void initTestCase() {
        m_path = m_folder.filePath("mixture.gguf").toStdString();
        std::ofstream(m_path, std::ios::binary) << m_bytes;
        m_model = openModel(m_path);
    }

    /// A smaller budget costs loads, and nothing else.
    void aBudgetChangesNoLogit_data() {
        QTest::addColumn<QString>("format");
        for (const char* format : {"", "q8_0", "q4_0", "f16"})
            QTest::addRow("%s", *format ? format : "as stored") << QString(format);
    }
    void aBudgetChangesNoLogit() {
        QFETCH(QString, format);
        const Recipe recipe = format.isEmpty() ? Recipe{} : rounding(format.toStdString().c_str());
        uint64_t all = 0;
        for (const TensorKey key : m_model->keys())
            if (isExpertMatrix(key))
                all += recipeBytes(*m_model, recipe, key);
        const auto plain = made(m_model, optionsFor(*m_model, 0), recipe);
        const auto expected = logitsOf(*plain, m_tokens);
        QCOMPARE(plain->expertLoads(), uint64_t(0));
        uint64_t before = ~uint64_t(0);
        // Tiles may take a little more than the planes that they are made of.
        for (const uint64_t budget : {uint64_t(1), all / 32 * 5, all / 32 * 20, all * 2}) {
            const auto runner = made(m_model, optionsFor(*m_model, budget), recipe);
            QCOMPARE(runner->expertLoads(), uint64_t(0));
            QVERIFY(logitsOf(*runner, m_tokens) == expected);
            QVERIFY(logitsOf(*runner, m_tokens, true) == expected);
            const uint64_t loads = runner->expertLoads();
            QVERIFY2(loads < before,
                     qPrintable(QString("%1 loads, then %2").arg(before).arg(loads)));
            before = loads;
            const uint64_t others = plain->memory().weights - all;
            QVERIFY(runner->memory().weights <= others + std::max(budget, all / 31) + all / 8);
        }
        // With room for all each is made once.
        QVERIFY(before <= 4 * 8);
    }

    void whatWasUsedLastStays() {
        // Room for the experts of one token and one more: the same token again loads nothing.
        const auto runner = made(m_model, optionsFor(*m_model, 9 * oneExpert()));
        const TokenId token = 5;
        Session session = runner->newSession();
        runner->append(session, {&token, 1});
        QCOMPARE(runner->expertLoads(), uint64_t(4 * 2));
        session.truncate(0);
        runner->append(session, {&token, 1});
        QCOMPARE(runner->expertLoads(), uint64_t(4 * 2));
        // One expert at a time: each is loaded again.
        const auto poor = made(m_model, optionsFor(*m_model, 1));
        Session again = poor->newSession();
        poor->append(again, {&token, 1});
        again.truncate(0);
        poor->append(again, {&token, 1});
        QCOMPARE(poor->expertLoads(), uint64_t(2 * 4 * 2));
    }

    void memoryIsAsPredicted() {
        const auto bytes = [&](TensorKey key) { return m_model->load(key).planeBytes(); };
        const auto plain = predictMemory(*m_model, optionsFor(*m_model, 0), bytes)[0];
        for (const uint64_t experts : {3, 16, 32}) {
            const RunOptions options = optionsFor(*m_model, experts * oneExpert());
            const auto predicted = predictMemory(*m_model, options, bytes)[0];
            QCOMPARE(predicted.weights, plain.weights - allExperts() + experts * oneExpert());
            const auto runner = made(m_model, options);
            logitsOf(*runner, m_tokens);
            QVERIFY(runner->memory().weights <= predicted.weights);
            if (experts < 32)
                QCOMPARE(runner->memory().weights, predicted.weights);
            QCOMPARE(runner->memory().scratch, predicted.scratch);
        }
    }

    /// Whole layers and experts that run apart share the budget.
    void stagesShareTheBudget() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        RunOptions options = optionsFor(*m_model, 8 * oneExpert());
        options.placement = {{{0, 3}, vulkan}, {{3, 4}, openCpu()}};
        options.expertLayers = {1, 3};
        options.expertBackend = openCpu();
        const auto runner = made(m_model, options);
        const auto logits = logitsOf(*runner, m_tokens);
        options.expertBudget = 0;
        const auto plain = made(m_model, options);
        QVERIFY(logits == logitsOf(*plain, m_tokens));
        QVERIFY(runner->expertLoads() > 8);
        const auto taken = runner->stageMemory(), whole = plain->stageMemory();
        QCOMPARE(taken[0].weights, whole[0].weights); // the device has all of its experts
        const uint64_t less =
            whole[1].weights + whole[2].weights - taken[1].weights - taken[2].weights;
        QCOMPARE(less, 3 * MixtureShape{}.expertBytes() - (2 + 5) * oneExpert()); // 8/3 and 16/3
    }

    void pathsAreToldOf() {
        const auto runner = made(m_model, optionsFor(*m_model, 9 * oneExpert()));
        const auto check = [&](size_t expectedUnused) {
            size_t unused = 0, experts = 0;
            for (const PathReport& path : runner->paths()) {
                experts += isExpertMatrix(path.key);
                unused += path.path == "in the file, not used yet";
            }
            QCOMPARE(experts, size_t(4 * 8 * 3));
            QCOMPARE(unused, expectedUnused);
        };
        check(4 * 8 * 3);
        const TokenId token = 5;
        Session session = runner->newSession();
        runner->append(session, {&token, 1});
        check(4 * 6 * 3);
    }

    /// A file that is cut while its model runs is an error, and the model goes on when it is back.
    void aFileThatIsCutIsAnError() {
        const std::filesystem::path path = m_folder.filePath("cut.gguf").toStdString();
        std::ofstream(path, std::ios::binary) << m_bytes;
        const auto model = openModel(path);
        const auto expected = logitsOf(*made(model, optionsFor(*model, 0)), m_tokens);
        const auto runner = made(model, optionsFor(*model, 3 * oneExpert()));
        Session session = runner->newSession();
        runner->append(session, std::span(m_tokens).first(4));
        // The last layer's experts are gone; what is in front of them is not read again.
        std::filesystem::resize_file(path, m_bytes.size() - MixtureShape{}.expertBytes() - 4096);
        try {
            runner->append(session, std::span(m_tokens).subspan(4));
            QFAIL("read from a file that is gone");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(std::string(error.what()).find("exps.weight can no longer be read") !=
                         std::string::npos,
                     error.what());
        }
        QCOMPARE(session.length(), 4);
        {
            std::ofstream back(path, std::ios::binary | std::ios::in);
            back << m_bytes;
        }
        runner->append(session, std::span(m_tokens).subspan(4));
        QVERIFY(logitsOf(*runner, m_tokens) == expected);
    }

    void aCalibratedLevelIsRefused() {
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int4_g32", .method = "gptq"});
        QVERIFY(!whyExpertsStay(*m_model, recipe).empty());
        QVERIFY(whyExpertsStay(*m_model, rounding("q4_0")).empty());
        QVERIFY(whyExpertsStay(*m_model, {}).empty());
        const auto runner = std::make_unique<Runner>(m_model, optionsFor(*m_model, oneExpert()));
        try {
            applyRecipe(*runner, recipe);
            QFAIL("made with a calibration that is not there");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::OutOfMemory);
            QVERIFY(std::string(error.what()).find("nibble-cli quantize") != std::string::npos);
        }
        // Where the experts stay as they are stored, the rest may be calibrated.
        recipe.rules.push_back({.match = "blk.*.ffn_*", .format = ""});
        QVERIFY(whyExpertsStay(*m_model, recipe).empty());
    }

    /// Another recipe in place of the first: nothing of it stays in memory.
    void replacedExpertsAreForgotten() {
        const auto runner = made(m_model, optionsFor(*m_model, allExperts() * 2));
        logitsOf(*runner, m_tokens);
        const Recipe recipe = rounding("q4_0");
        applyRecipe(*runner, recipe);
        const auto expected = logitsOf(*made(m_model, optionsFor(*m_model, 0), recipe), m_tokens);
        QVERIFY(logitsOf(*runner, m_tokens) == expected);
    }
};

QTEST_GUILESS_MAIN(TestExpertLoading)
#include "test_expert_loading.moc"
