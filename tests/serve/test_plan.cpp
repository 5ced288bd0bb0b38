#include "core/base/error.h"
#include "core/serve/engine.h"
#include "core/serve/plan.h"
#include "tests/support/mixture_model.h"
#include "tests/support/sparse_file.h"

#include <QTemporaryDir>
#include <QTest>

#include <fstream>

using namespace nibble;
using namespace nibble::test;

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

LoadPlan planFor(const Model& model, uint64_t free, int32_t gpuLayers = -1, uint64_t releasable = 0,
                 int32_t cpuExperts = -1) {
    EngineOptions options;
    options.gpuLayers = gpuLayers;
    options.cpuExperts = cpuExperts;
    options.context = 256;
    return planOn(model, {}, options, std::make_shared<PaperDevice>(free), releasable);
}

} // namespace

class TestPlan : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("7b");
    QTemporaryDir m_folder;
    std::shared_ptr<const Model>
        m_mixture; ///< 24 layers of 64 experts, 12 GB of them, and 0.3 GB else

    bool makeMixture() {
        MixtureShape shape{.layers = 24,
                           .width = 1024,
                           .feedForward = 1280,
                           .experts = 64,
                           .used = 4,
                           .vocabulary = 32000,
                           .halves = true};
        const MixtureFile file = mixtureFile(shape);
        const std::filesystem::path path = m_folder.filePath("mixture.gguf").toStdString();
        if (!SparseFile(path, file.head, file.bytes).holds())
            return false;
        m_mixture = openModel(path);
        return m_mixture->unsupported.empty();
    }

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

    /// The smaller the device, the more experts are on the CPU, and layers only when all are.
    void expertsLeaveBeforeLayers() {
        if (!makeMixture())
            QSKIP("no sparse files here");
        const uint64_t whole = planFor(*m_mixture, 40'000'000'000).parts[0].use.total();
        QVERIFY(whole > 11'000'000'000 && whole < 14'000'000'000);
        LoadPlan before = planFor(*m_mixture, whole * 2);
        QVERIFY(!before.isShort() && !before.isSplit() && before.cpuExperts == 0);
        int some = 0, all = 0, layers = 0;
        for (int step = 60; step >= 0; --step) {
            const uint64_t free = whole * uint64_t(step * step) / 3000; // small ones more often
            const LoadPlan plan = planFor(*m_mixture, free);
            QVERIFY(plan.gpuLayers <= before.gpuLayers && plan.cpuExperts >= before.cpuExperts);
            QVERIFY(plan.gpuLayers == 24 || plan.cpuExperts == 24);
            QCOMPARE(plan.mixtures, 24);
            QVERIFY(plan.gpuLayers == 0 || plan.parts[0].use.total() <= free);
            QCOMPARE(plan.isShort(), plan.cpuExperts > 0);
            QCOMPARE(plan.expertsApart(), plan.cpuExperts - (24 - plan.gpuLayers));
            // Nothing is lost between the devices, and nothing is counted twice.
            uint64_t weights = 0;
            for (const PlanPart& part : plan.parts)
                weights += part.use.weights;
            const uint64_t tied = m_mixture->get({Role::TokenEmbedding}).values() * 2;
            QCOMPARE(weights, planFor(*m_mixture, whole * 2).parts[0].use.weights +
                                  (plan.gpuLayers > 0 && plan.gpuLayers < 24 ? tied : 0));
            if (plan.expertsApart() > 0) {
                QCOMPARE(plan.parts.size(), size_t(2));
                QCOMPARE(plan.parts[1].expertLayers, plan.expertsApart());
                QCOMPARE(plan.parts[0].withoutExperts, plan.expertsApart());
                // One fewer would not fit, but for what is kept for others.
                if (plan.gpuLayers == 24) {
                    const LoadPlan fewer = planFor(*m_mixture, free, 24, 0, plan.cpuExperts - 1);
                    QVERIFY(fewer.parts[0].use.total() > free - free / 20 - (uint64_t(4) << 20));
                }
            }
            some += plan.gpuLayers == 24 && plan.cpuExperts > 0 && plan.cpuExperts < 24;
            all += plan.gpuLayers == 24 && plan.cpuExperts == 24;
            layers += plan.gpuLayers > 0 && plan.gpuLayers < 24;
            before = plan;
        }
        QVERIFY(some > 5 && all > 2 && layers > 2);
        QCOMPARE(before.gpuLayers, 0);
    }

    void expertsAreToldOf() {
        if (!makeMixture())
            QSKIP("no sparse files here");
        LoadPlan plan = planFor(*m_mixture, 6'000'000'000);
        const int32_t apart = plan.cpuExperts;
        QVERIFY(apart > 0 && apart < 24);
        const auto says = [&](const std::string& text, const std::string& part) {
            QVERIFY2(text.find(part) != std::string::npos, text.c_str());
        };
        says(plan.text(), fmt::format("24 of 24 layers, {} of them without their experts, on Paper "
                                      "(vulkan:9): ",
                                      apart));
        says(plan.text(), fmt::format(". The experts of {} layers on ", apart));
        says(plan.text(), "vulkan:9 cannot hold all experts.");
        says(plan.deviceText(), "Paper (vulkan:9), layers 1–24; ");
        says(plan.deviceText(), fmt::format("(cpu), the experts of layers {}–24", 25 - apart));
        // Experts are read sparsely: with them there it is faster than with as many bytes of whole
        // layers.
        const auto speed = [](LoadPlan of) {
            for (PlanPart& part : of.parts)
                part.readBandwidth = part.device.id == "cpu" ? 50e9 : 1000e9;
            return *of.tokensPerSecond();
        };
        const LoadPlan layers =
            planFor(*m_mixture, 6'000'000'000, plan.layers - plan.cpuExperts, 0, 0);
        QVERIFY(speed(plan) > speed(layers));
        // A token reads 4 of 64 experts, and what is not an expert.
        const uint64_t experts = plan.parts[1].use.weights;
        QVERIFY(plan.parts[1].tokenBytes < experts / 14 && plan.parts[1].tokenBytes > experts / 17);

        const LoadPlan both = planFor(*m_mixture, 300'000'000);
        QVERIFY(both.gpuLayers > 0 && both.gpuLayers < 24);
        says(both.deviceText(), fmt::format("(cpu), layers {}–24 and the experts of layers 1–{}",
                                            both.gpuLayers + 1, both.gpuLayers));
        says(both.text(), fmt::format("{} of 24 layers and the experts of {} layers on ",
                                      24 - both.gpuLayers, both.gpuLayers));
        says(both.text(), "vulkan:9 cannot hold all layers.");
    }

    void aNumberOfExpertsIsKept() {
        if (!makeMixture())
            QSKIP("no sparse files here");
        const LoadPlan plan = planFor(*m_mixture, 40'000'000'000, -1, 0, 10);
        QCOMPARE(plan.cpuExperts, 10);
        QCOMPARE(plan.gpuLayers, 24);
        QVERIFY(!plan.isShort() && plan.isSplit() && plan.fits());
        QCOMPARE(plan.parts[1].experts, (LayerRange{14, 24}));
        QCOMPARE(planFor(*m_mixture, 40'000'000'000, -1, 0, 99).cpuExperts, 24);
        QCOMPARE(planFor(*m_mixture, 40'000'000'000, 20, 0, 0).cpuExperts, 4); // of whole layers
        const LoadPlan tight = planFor(*m_mixture, 2'000'000'000, -1, 0, 10);
        QVERIFY(tight.gpuLayers < 14 && tight.isShort());
        const LoadPlan wrong = planFor(*m_mixture, 2'000'000'000, 24, 0, 10);
        QVERIFY(!wrong.fits());
        QVERIFY(wrong.text().find("or more --cpu-experts") != std::string::npos);
        try {
            planFor(*m_model, 40'000'000'000, -1, 0, 3);
            QFAIL("a model without experts");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Usage);
            QVERIFY(std::string(error.what()).find("has no experts") != std::string::npos);
        }
    }

    /// What is planned is what runs, and the answer stays the same.
    void theEngineRunsExpertsApart() {
        const std::filesystem::path path = m_folder.filePath("small.gguf").toStdString();
        std::ofstream(path, std::ios::binary) << mixtureModel({});
        const auto model = openModel(path);
        EngineOptions options;
        options.device = "cpu:scalar";
        options.context = 64;
        options.cpuExperts = 3;
        Engine engine;
        engine.open(model, {}, options);
        QCOMPARE(engine.plan().parts.size(), size_t(2));
        QCOMPARE(engine.plan().parts[1].experts, (LayerRange{1, 4}));
        QCOMPARE(engine.plan().cpuExperts, 3);
        const uint64_t apart = engine.usedMemory().use.weights;
        options.cpuExperts = 0;
        engine.apply({}, options);
        QCOMPARE(engine.plan().parts.size(), size_t(1));
        QVERIFY(engine.usedMemory().use.weights >= apart + 3 * MixtureShape{}.expertBytes());
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
