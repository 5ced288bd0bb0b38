#include "core/base/error.h"
#include "core/serve/engine.h"
#include "core/serve/plan.h"

#include <QTest>

using namespace nibble;

namespace {

/// A device of any size that only plans.
class PaperDevice : public Backend {
public:
    explicit PaperDevice(uint64_t free, const char* kind = "discrete")
        : m_free(free), m_kind(kind) {}
    DeviceInfo info() const override {
        DeviceInfo info;
        info.id = "vulkan:9";
        info.name = "Paper";
        info.kind = m_kind;
        info.memoryBytes = 2 * m_free;
        info.freeBytes = m_free;
        info.freeKnown = true;
        return info;
    }
    std::unique_ptr<Stage> makeStage(const ModelConfig&, const StageOptions&) override {
        fail(ErrorKind::Internal, "Nothing runs on paper.");
    }

private:
    uint64_t m_free;
    const char* m_kind;
};

LoadPlan planFor(const Model& model, uint64_t free, int32_t gpuLayers = -1,
                 uint64_t releasable = 0) {
    EngineOptions options;
    options.gpuLayers = gpuLayers;
    options.context = 256;
    return planOn(model, {}, options, std::make_shared<PaperDevice>(free), releasable);
}

} // namespace

class TestPlan : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("7b");

private slots:
    void whatFitsStaysTogether() {
        const LoadPlan plan = planFor(*m_model, 40'000'000'000);
        QCOMPARE(plan.parts.size(), size_t(1));
        QCOMPARE(plan.gpuLayers, 32);
        QVERIFY(plan.automatic && plan.fits() && !plan.isShort() && !plan.isSplit());
        QCOMPARE(plan.deviceText(), std::string("Paper (vulkan:9)"));
        // 6.7 thousand million weights of two bytes; a token reads all but the embedding.
        QVERIFY(plan.parts[0].use.weights > 13'400'000'000);
        QCOMPARE(plan.parts[0].use.weights - plan.parts[0].tokenBytes, uint64_t(32000) * 4096 * 2);
    }

    void theCutIsTheLargestThatFits() {
        int32_t before = -1;
        for (const uint64_t free : {0ull, 2'000'000'000ull, 4'000'000'000ull, 8'000'000'000ull,
                                    12'000'000'000ull, 13'700'000'000ull}) {
            const LoadPlan plan = planFor(*m_model, free);
            QVERIFY(plan.gpuLayers > before || free < 4'000'000'000ull);
            before = plan.gpuLayers;
            QVERIFY(plan.isShort());
            QVERIFY(plan.text().find("vulkan:9 cannot hold all layers") != std::string::npos);
            if (plan.gpuLayers == 0) {
                QCOMPARE(plan.parts.size(), size_t(1));
                QVERIFY(plan.deviceText().ends_with("as no layer fits vulkan:9"));
                continue;
            }
            QCOMPARE(plan.parts.size(), size_t(2));
            QVERIFY(plan.parts[0].use.total() <= free);
            QCOMPARE(plan.parts[0].layers.end, plan.gpuLayers);
            QCOMPARE(plan.parts[1].layers, (LayerRange{plan.gpuLayers, 32}));
            QVERIFY(plan.deviceText().find(fmt::format("layers 1–{}; ", plan.gpuLayers)) !=
                    std::string::npos);
            // One more would take more than is free, but for what is kept for others.
            const LoadPlan more = planFor(*m_model, free, plan.gpuLayers + 1);
            QVERIFY(more.parts[0].use.total() > free - free / 20 - (uint64_t(4) << 20));
        }
        QVERIFY(before > 20);
    }

    void aNumberThatIsAskedForIsKept() {
        const LoadPlan plan = planFor(*m_model, 1'000'000'000, 30);
        QCOMPARE(plan.gpuLayers, 30);
        QVERIFY(!plan.automatic && !plan.fits() && !plan.isShort());
        QVERIFY2(plan.text().find("vulkan:9 is 11") != std::string::npos &&
                     plan.text().find("short: choose a smaller level") != std::string::npos,
                 plan.text().c_str());
        QCOMPARE(planFor(*m_model, 1'000'000'000, 99).gpuLayers, 32);
        QCOMPARE(planFor(*m_model, 1'000'000'000, 0).parts[0].device.id, std::string("cpu"));
    }

    void whatGivesWayCountsAsFree() {
        QVERIFY(planFor(*m_model, 8'000'000'000).isShort());
        QVERIFY(!planFor(*m_model, 8'000'000'000, -1, 8'000'000'000).isShort());
    }

    void theSpeedIsEstimatedFromWhatIsRead() {
        LoadPlan plan = planFor(*m_model, 8'000'000'000);
        QVERIFY(!plan.tokensPerSecond());
        for (PlanPart& part : plan.parts)
            part.readBandwidth = part.device.id == "cpu" ? 50e9 : 1000e9;
        const double split = *plan.tokensPerSecond();
        LoadPlan whole = planFor(*m_model, 40'000'000'000);
        whole.parts[0].readBandwidth = 1000e9;
        const double all = *whole.tokensPerSecond();
        QVERIFY(all > 20 && all < 80);
        QVERIFY(split < all / 2 && split > 1);
        QVERIFY(whole.text().find("Estimated from memory bandwidth: ") != std::string::npos);
    }

    void theProcessorAloneIsNotCut() {
        const auto model = makeSyntheticModel("tiny");
        EngineOptions options;
        options.device = "cpu";
        options.context = 64;
        const LoadPlan plan = planLoad(*model, {}, options);
        QVERIFY(!plan.automatic);
        QCOMPARE(plan.parts.size(), size_t(1));
        QVERIFY(plan.parts[0].readBandwidth > 0);
        QVERIFY(plan.tokensPerSecond().has_value());
        options.context = 0;
        QVERIFY_EXCEPTION_THROWN(planLoad(*model, {}, options), Error);
    }

    void theEngineTellsItsPlan() {
        const auto model = makeSyntheticModel("tiny");
        EngineOptions options;
        options.device = "cpu:scalar";
        options.context = 64;
        options.gpuLayers = 1;
        Engine engine;
        engine.open(model, {}, options);
        QVERIFY(engine.plan().isSplit());
        QCOMPARE(engine.plan().parts[1].layers, (LayerRange{1, 2}));
        // The ledger is of the first device, not of both.
        QVERIFY(engine.usedMemory().use.weights < recipeSize(*model, {}).residentBytes);
    }
};

QTEST_GUILESS_MAIN(TestPlan)
#include "test_plan.moc"
