#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/quant/recipe.h"
#include "core/serve/engine.h"
#include "tests/runtime/vulkan_support.h"

#include <QTest>

using namespace nibble;

/// A software device that is made smaller than the model, so that what fits moves as recipes and
/// models change.
class TestSplit : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model;
    EngineOptions m_options;

    static Recipe level(const Model& model, std::string_view name) {
        for (const Level& level : levels())
            if (name == level.name)
                return level.make(model);
        return {};
    }

private slots:
    void initTestCase() {
        qputenv("NIBBLE_VULKAN_MEMORY", "20000000"); // read when the first device is opened
        NIBBLE_NEED_LAVAPIPE(backend);
        QCOMPARE(backend->info().memoryBytes, uint64_t(20'000'000));
        QCOMPARE(backend->info().freeBytes, uint64_t(20'000'000));
        m_model = openModel(sampleModelPath());
        m_options.device = "vulkan:0";
        m_options.context = 128;
    }

    void theCutFollowsTheRecipe() {
        Engine engine;
        engine.open(m_model, {}, m_options);
        const int32_t layers = m_model->config.layers, first = engine.plan().gpuLayers;
        QVERIFY(engine.plan().isSplit() && engine.plan().isShort());
        QVERIFY(first > 0 && first < layers);
        QCOMPARE(engine.device().id, std::string("vulkan:0"));
        // The ledger is the device's: within what it has.
        QVERIFY(engine.usedMemory().use.total() <= 20'000'000);
        engine.apply(level(*m_model, "int4"), m_options);
        QCOMPARE(engine.plan().gpuLayers, layers);
        QVERIFY(!engine.plan().isSplit());
        engine.apply({}, m_options);
        QCOMPARE(engine.plan().gpuLayers, first);
    }

    void anotherModelGetsTheRoomOfTheFirst() {
        Engine engine;
        engine.open(m_model, {}, m_options);
        const int32_t alone = engine.plan().gpuLayers;
        engine.open(openModel(sampleModelPath()), {}, m_options);
        QCOMPARE(engine.plan().gpuLayers, alone);
    }

    /// What takes its place fails: the first runs again.
    void aFailureBringsTheFirstBack() {
        Engine engine;
        engine.open(m_model, {}, m_options);
        EngineOptions wrong = m_options;
        wrong.calibration = "/no/such/file";
        QVERIFY_EXCEPTION_THROWN(engine.open(m_model, level(*m_model, "gptq"), wrong), Error);
        QVERIFY(engine.isOpen());
        QVERIFY(engine.recipe().rules.empty());
        QVERIFY(engine.plan().isSplit());
    }
};

QTEST_GUILESS_MAIN(TestSplit)
#include "test_split.moc"
