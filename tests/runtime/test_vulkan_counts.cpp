// What a Vulkan run does and takes, seen from outside the program: by a layer in front of the
// driver.
#include "core/runtime/vulkan/pipelines.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/mixture_model.h"
#include "tests/support/vulkan_layer/use_layer.h"
#include "vulkan_kernels/include/kernel_table.h"

#include <QTemporaryDir>
#include <QTest>

#include <fstream>

using namespace nibble;
using namespace nibble::test;

namespace {

/// Executed dispatches of the kernels whose name begins so ("product_dot" is a product).
uint64_t executed(std::string_view name) {
    uint64_t count = 0;
    for (const kernels::KernelModule& module : kernels::kernelModules())
        if (module.name.starts_with(name))
            count += vulkanLayer().executedOf(withoutUnrolling(module.words));
    return count;
}

uint64_t matrices(const Model& model, LayerRange layers, bool heads) {
    uint64_t count = 0;
    for (const TensorKey key : model.keys()) {
        const bool isHead = key.role == Role::Output ||
                            (key.role == Role::TokenEmbedding && model.config.tiedEmbedding);
        count += isMatrix(key.role) &&
                 (isHead ? heads : key.layer >= layers.begin && key.layer < layers.end);
    }
    return count;
}

const std::vector<TokenId> kPrompt{1, 5, 9, 200, 17, 3, 4};

} // namespace

class TestVulkanCounts : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("tiny");

    /// Product dispatches of one call with these rows.
    uint64_t products(const std::vector<Placement>& placement, ActivationFormat activations) {
        const auto runner = makeRunner(m_model, placement, activations);
        Session session = runner->newSession();
        vulkanLayer().reset();
        runner->append(session, kPrompt);
        return executed("product");
    }

private slots:
    void init() { NIBBLE_NEED_LAYER(); }

    void everyMatrixIsOneProductOnTheDevice_data() {
        QTest::addColumn<int>("activations");
        QTest::addRow("float") << int(ActivationFormat::Float);
        QTest::addRow("int8") << int(ActivationFormat::Int8Block32);
    }
    void everyMatrixIsOneProductOnTheDevice() {
        QFETCH(int, activations);
        const auto as = static_cast<ActivationFormat>(activations);
        const auto vulkan = openVulkan(0);
        const auto cpu = openCpu();
        const uint64_t all = matrices(*m_model, {0, 2}, true);
        QCOMPARE(all, uint64_t(2 * 7 + 1));
        QCOMPARE(products(placeAll(*m_model, vulkan), as), all);
        // The count shows where a matrix was multiplied: what the CPU does is missing.
        QCOMPARE(products({{{0, 1}, vulkan}, {{1, 2}, cpu}}, as),
                 matrices(*m_model, {0, 1}, false));
        QCOMPARE(products({{{0, 1}, cpu}, {{1, 2}, vulkan}}, as), matrices(*m_model, {1, 2}, true));
        QCOMPARE(products(placeAll(*m_model, cpu), as), uint64_t(0));
    }

    void aReplayedCallExecutesWhatWasRecorded() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openVulkan(0)));
        Session session = runner->newSession();
        const TokenId token = 7;
        runner->append(session, {&token, 1});
        vulkanLayer().reset();
        runner->append(session, {&token, 1});
        QCOMPARE(vulkanLayer().dispatchesRecorded.load(), uint64_t(0));
        QCOMPARE(executed("product"), matrices(*m_model, {0, 2}, true));
        QCOMPARE(executed("attention"), uint64_t(2));
        QCOMPARE(executed("embed"), uint64_t(1));
        QCOMPARE(vulkanLayer().calls[int(VulkanCall::Submit)].load(), uint64_t(1));
        QCOMPARE(vulkanLayer().calls[int(VulkanCall::Allocate)].load(), uint64_t(0));
    }

    /// However many pieces a pass has: each is recorded once, and waited for once.
    void piecesOfLayersAreReplayed() {
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.filePath("mixture.gguf").toStdString();
        MixtureShape shape;
        shape.layers = 30;
        std::ofstream(path, std::ios::binary) << mixtureModel(shape);
        const auto model = openModel(path);
        RunOptions options;
        options.placement = placeAll(*model, openVulkan(0));
        options.expertLayers = {2, 30};
        options.expertBackend = openCpu();
        options.context = 64;
        Runner runner(model, options);
        for (const TensorKey key : model->keys())
            runner.setTensor(key, model->load(key));
        Session session = runner.newSession();
        const std::vector<TokenId> some{1, 5, 9};
        runner.append(session, some);
        runner.append(session, {some.data(), 1});
        vulkanLayer().reset();
        runner.append(session, {some.data(), 1});
        runner.append(session, some);
        QCOMPARE(vulkanLayer().dispatchesRecorded.load(), uint64_t(0));
        // 28 pieces that end in front of experts, and the head; twice.
        QCOMPARE(vulkanLayer().calls[int(VulkanCall::Submit)].load(), uint64_t(2 * (28 + 1)));
        QCOMPARE(vulkanLayer().calls[int(VulkanCall::Allocate)].load(), uint64_t(0));
        QCOMPARE(executed("attention"), uint64_t(2 * 30));
        QCOMPARE(executed("embed"), uint64_t(2));
        QCOMPARE(executed("route"), uint64_t(2 * 2));
    }

    void nothingIsAliveAfterwards() {
        const int64_t before = vulkanLayer().liveObjects;
        {
            const auto runner = makeRunner(m_model, placeAll(*m_model, openVulkan(0)));
            Session session = runner->newSession();
            runner->append(session, kPrompt);
            QVERIFY(vulkanLayer().liveObjects > before);
            QVERIFY(vulkanLayer().liveBytes > 0);
        }
        QCOMPARE(vulkanLayer().liveObjects.load(), before);
        QCOMPARE(vulkanLayer().liveBytes.load(), int64_t(0));
    }
};

QTEST_GUILESS_MAIN(TestVulkanCounts)
#include "test_vulkan_counts.moc"
