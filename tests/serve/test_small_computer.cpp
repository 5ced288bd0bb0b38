#include "core/base/error.h"
#include "core/serve/engine.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/mixture_model.h"

#include <QTemporaryDir>
#include <QTest>

#include <fstream>

using namespace nibble;
using namespace nibble::test;

/// A computer that is made too small for a mixture's experts, with and without a device.
class TestSmallComputer : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;
    MixtureShape m_shape{.layers = 4, .width = 128, .feedForward = 256, .experts = 16};
    std::shared_ptr<const Model> m_model;
    EngineOptions m_options;
    std::vector<TokenId> m_tokens;

    std::vector<float> logitsOf(Runner& runner) {
        Session session = runner.newSession();
        return runner.append(session, m_tokens, true);
    }

private slots:
    void initTestCase() {
        qputenv("NIBBLE_CPU_MEMORY", "11000000");
        qputenv("NIBBLE_VULKAN_MEMORY", "16000000");
        QCOMPARE(openCpu()->info().memoryBytes, uint64_t(11'000'000));
        QVERIFY(openCpu()->info().freeBytes <= 11'000'000);
        const std::filesystem::path path = m_folder.filePath("mixture.gguf").toStdString();
        std::ofstream(path, std::ios::binary) << mixtureModel(m_shape);
        m_model = openModel(path);
        QVERIFY(m_shape.layers * m_shape.expertBytes() > 25'000'000);
        m_options.device = "cpu";
        m_options.context = 64;
        m_options.kv = KvFormat::F32;
        for (int i = 0; i < 40; ++i)
            m_tokens.push_back((i * 29 + 7 * i * i + 3) % 64);
    }

    void expertsStayInTheFile() {
        const LoadPlan plan = planLoad(*m_model, {}, m_options);
        QCOMPARE(plan.parts.size(), size_t(1));
        QVERIFY(plan.fits());
        const PlanPart& part = plan.parts[0];
        QCOMPARE(part.expertBytes, m_shape.layers * m_shape.expertBytes());
        QVERIFY(part.expertBudget > 3'000'000 && part.expertBudget < 7'000'000);
        QCOMPARE(part.expertBudget, plan.expertBudget);
        QVERIFY(!plan.tokensPerSecond());
        QVERIFY2(plan.text().find(
                     "\u00a0MB of its 25\u00a0MB of experts in memory, those used last, and "
                     "reads the others from the file") != std::string::npos,
                 plan.text().c_str());
        const auto runner = loadRunner(m_model, {}, m_options);
        const auto logits = logitsOf(*runner);
        QVERIFY(runner->expertLoads() > 0);
        QVERIFY(runner->memory().total() <= 11'000'000);
        RunOptions whole = runner->options();
        whole.expertBudget = 0;
        Runner plain(m_model, whole);
        for (const TensorKey key : m_model->keys())
            plain.setTensor(key, m_model->load(key));
        QVERIFY(logits == logitsOf(plain));
    }

    /// What fits after rounding is in memory as a whole.
    void aSmallerLevelNeedsNoFile() {
        const Recipe small = levelRecipe("q4_0", *m_model);
        const LoadPlan plan = planLoad(*m_model, small, m_options);
        QVERIFY(plan.fits());
        QCOMPARE(plan.expertBudget, uint64_t(0));
        const auto runner = loadRunner(m_model, small, m_options);
        logitsOf(*runner);
        QCOMPARE(runner->expertLoads(), uint64_t(0));
        const Recipe large = levelRecipe("q8_0", *m_model);
        QVERIFY(planLoad(*m_model, large, m_options).expertBudget > 0);
        const auto lazy = loadRunner(m_model, large, m_options);
        logitsOf(*lazy);
        QVERIFY(lazy->expertLoads() > 0);
    }

    void aCalibratedLevelIsRefused() {
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int8_channel", .method = "gptq"});
        for (const char* format : {"int8", "int8_g32", "q8_0"})
            try {
                getFormat(format);
                recipe.rules[0].format = format;
            } catch (const Error&) {
            }
        const LoadPlan plan = planLoad(*m_model, recipe, m_options);
        QVERIFY(!plan.refusal.empty());
        QVERIFY(plan.text().find("made with a calibration") != std::string::npos);
        try {
            loadRunner(m_model, recipe, m_options);
            QFAIL("loaded");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::OutOfMemory);
        }
    }

    void deviceAndComputerAreBothShort() {
        NIBBLE_NEED_LAVAPIPE(backend);
        EngineOptions options = m_options;
        options.device = "vulkan:0";
        const LoadPlan plan = planOn(*m_model, {}, options, backend);
        QVERIFY(plan.fits());
        QVERIFY(plan.gpuLayers == 4 && plan.cpuExperts > 0 && plan.cpuExperts < 4);
        QVERIFY(plan.expertBudget > 0);
        Engine engine;
        engine.open(m_model, {}, options);
        QCOMPARE(engine.plan().cpuExperts, plan.cpuExperts);
        QVERIFY(engine.usedMemory().use.total() <= 16'000'000);
        QVERIFY(engine.plan().expertBudget > 0);
        engine.apply(levelRecipe("q4_0", *m_model), options);
        QCOMPARE(engine.plan().cpuExperts, 0);
        QCOMPARE(engine.plan().expertBudget, uint64_t(0));
        engine.apply({}, options);
        QCOMPARE(engine.plan().cpuExperts, plan.cpuExperts);
        QVERIFY(engine.plan().expertBudget > 0);
    }
};

QTEST_GUILESS_MAIN(TestSmallComputer)
#include "test_small_computer.moc"
