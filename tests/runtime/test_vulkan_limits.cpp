// A device that can bind less than a tensor has, and one whose memory the host does not see, give
// the same logits as the software device that the tests run on.
#include "tests/runtime/vulkan_support.h"
#include "tests/support/vulkan_layer/use_layer.h"

#include <QTest>

using namespace nibble;
using namespace nibble::test;

class TestVulkanLimits : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("tiny");

    struct Result {
        std::vector<float> logits;
        uint64_t dispatches = 0, uploads = 0, submits = 0;
    };
    Result run(ActivationFormat activations) {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openVulkan(0)), activations, 16,
                                       KvFormat::F16, 1);
        Session session = runner->newSession();
        std::vector<TokenId> tokens(13);
        for (size_t i = 0; i < tokens.size(); ++i)
            tokens[i] = static_cast<TokenId>(i * 37 % 256);
        Result result;
        const auto submits = [] { return vulkanLayer().calls[int(VulkanCall::Submit)].load(); };
        result.uploads = submits();
        vulkanLayer().dispatchesExecuted = 0;
        result.logits = runner->append(session, tokens, true);
        result.dispatches = vulkanLayer().dispatchesExecuted;
        result.submits = submits() - result.uploads;
        return result;
    }

    static void formats() {
        QTest::addColumn<int>("activations");
        QTest::addRow("float") << int(ActivationFormat::Float);
        QTest::addRow("int8") << int(ActivationFormat::Int8Block32);
    }

private slots:
    /// Whether the device seems to be a card or not, its kernels add in the same order.
    void initTestCase() { qputenv("NIBBLE_VULKAN_TILING", "software"); }

    void init() { NIBBLE_NEED_LAYER(); }
    void cleanup() { vulkanLayer().reset(); }

    void largeTensorsAreSplit_data() { formats(); }
    void largeTensorsAreSplit() {
        QFETCH(int, activations);
        const auto as = static_cast<ActivationFormat>(activations);
        const Result whole = run(as);
        // Of the tensors the embedding (32 KiB in f16) and the feed-forward ones (20 KiB) exceed
        // this; of the other buffers none does.
        vulkanLayer().storageRange = 17 << 10;
        const Result split = run(as);
        QCOMPARE(vulkanLayer().violations.load(), uint64_t(0));
        QVERIFY(split.dispatches > whole.dispatches);
        QVERIFY(split.logits == whole.logits);
    }

    void hiddenMemoryIsFilledByCopies_data() { formats(); }
    void hiddenMemoryIsFilledByCopies() {
        QFETCH(int, activations);
        const auto as = static_cast<ActivationFormat>(activations);
        const Result shared = run(as);
        QCOMPARE(shared.uploads, uint64_t(0));
        vulkanLayer().reset();
        vulkanLayer().discrete = true;
        const Result copied = run(as);
        QCOMPARE(vulkanLayer().violations.load(), uint64_t(0));
        QVERIFY(copied.uploads >= m_model->keys().size());
        QVERIFY(copied.logits == shared.logits);
    }

    /// A call that takes long is submitted in pieces, and its long dispatches in parts.
    void longCallsAreCut_data() { formats(); }
    void longCallsAreCut() {
        QFETCH(int, activations);
        const auto as = static_cast<ActivationFormat>(activations);
        const Result whole = run(as);
        QCOMPARE(whole.submits, uint64_t(1));
        // The 13 rows, padded to 16, are one group of rows of a product, but 16 of attention, whose
        // 64 values × 16 tokens × 8 are more than this.
        qputenv("NIBBLE_VULKAN_PIECE", "40000");
        const Result cut = run(as);
        qunsetenv("NIBBLE_VULKAN_PIECE");
        QVERIFY2(cut.submits > 6, qPrintable(QString::number(cut.submits)));
        QVERIFY(cut.dispatches > whole.dispatches);
        QVERIFY(cut.logits == whole.logits);
    }

    void bothTogether() {
        const Result plain = run(ActivationFormat::Float);
        vulkanLayer().discrete = true;
        vulkanLayer().storageRange = 17 << 10;
        QVERIFY(run(ActivationFormat::Float).logits == plain.logits);
        QCOMPARE(vulkanLayer().violations.load(), uint64_t(0));
    }
};

QTEST_GUILESS_MAIN(TestVulkanLimits)
#include "test_vulkan_limits.moc"
