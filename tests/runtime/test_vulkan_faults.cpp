// ctest: TIMEOUT=600
// A driver that loses the device or has no memory, at every call where it can: one sentence of the
// right kind, nothing left alive, and the next try works.
#include "core/base/error.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/vulkan_layer/use_layer.h"

#include <QTest>
#include <vulkan/vulkan_core.h>

using namespace nibble;
using namespace nibble::test;

namespace {

/// Loads and runs: a prompt, a fork in the middle of a page, single tokens, a tap.
std::vector<float> run(const std::shared_ptr<const Model>& model,
                       const std::shared_ptr<Backend>& backend) {
    const auto runner = makeRunner(model, placeAll(*model, backend), ActivationFormat::Int8Block32,
                                   16, KvFormat::F16, 2);
    Session session = runner->newSession();
    runner->append(session, std::vector<TokenId>{3, 1, 4, 1, 5});
    Session fork = session.fork();
    runner->append(fork, std::vector<TokenId>{9, 2});
    return runner->append(session, std::vector<TokenId>{6});
}

struct Outcome {
    std::vector<float> logits;
    int kind = 0; ///< of the Error, or 0
    std::string sentence;
};

/// A run whose `number`-th call of a kind fails, on a device of its own unless one is given.
Outcome runWith(const std::shared_ptr<const Model>& model, VulkanCall call, uint64_t number,
                VkResult result, std::shared_ptr<Backend> backend = nullptr) {
    Outcome outcome;
    vulkanLayer().failCall(call, number, result);
    try {
        if (!backend)
            backend = openVulkan(0);
        outcome.logits = run(model, backend);
    } catch (const Error& error) {
        outcome.kind = error.exitCode();
        outcome.sentence = error.what();
    }
    vulkanLayer().failCall(call, 0, VK_SUCCESS);
    return outcome;
}

bool isOneSentence(const std::string& text) {
    return text.size() > 20 && text.ends_with('.') && text.find('\n') == text.npos;
}

} // namespace

class TestVulkanFaults : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("tiny");
    int m_survived = 0;

    /// Fails call 1, 1 + step, 1 + 2 · step … until a run sees no fault; how many calls there were.
    /// m_survived counts the faults that changed nothing.
    int sweep(VulkanCall call, VkResult result, ErrorKind expected, const std::vector<float>& right,
              uint64_t step = 1) {
        m_survived = 0;
        for (uint64_t n = 1;; n += step) {
            vulkanLayer().faults = 0;
            const Outcome outcome = runWith(m_model, call, n, result);
            const QByteArray where = QByteArray::number(qulonglong(n)) + ": " +
                                     QByteArray::fromStdString(outcome.sentence);
            if (vulkanLayer().faults == 0) {
                if (outcome.logits != right)
                    QTest::qFail("The run after the faults differs", __FILE__, __LINE__);
                return static_cast<int>(n - step);
            }
            if (outcome.logits == right) {
                ++m_survived;
                continue;
            }
            if (outcome.kind != static_cast<int>(expected) || !isOneSentence(outcome.sentence) ||
                vulkanLayer().liveObjects != 0 || vulkanLayer().liveBytes != 0) {
                QTest::qFail(where.constData(), __FILE__, __LINE__);
                return -1;
            }
        }
    }

    std::vector<float> freshAnswer(const std::vector<TokenId>& prompt) {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openVulkan(0)));
        Session session = runner->newSession();
        return runner->append(session, prompt);
    }

private slots:
    void init() { NIBBLE_NEED_LAYER(); }
    void cleanup() { vulkanLayer().reset(); }

    void deviceLost_data() {
        QTest::addColumn<int>("call");
        QTest::addColumn<bool>("discrete");
        QTest::addRow("at a submission") << int(VulkanCall::Submit) << false;
        QTest::addRow("while waiting") << int(VulkanCall::Wait) << false;
        QTest::addRow("at an upload or a submission") << int(VulkanCall::Submit) << true;
    }
    void deviceLost() {
        QFETCH(int, call);
        QFETCH(bool, discrete);
        vulkanLayer().discrete = discrete;
        const auto right = run(m_model, openVulkan(0));
        const int faults = sweep(static_cast<VulkanCall>(call), VK_ERROR_DEVICE_LOST,
                                 ErrorKind::DeviceLost, right);
        // Prompt, page copy, fork, token; where the host does not see the memory also 16 matrices,
        // 5 vectors and a counter.
        QVERIFY2(faults >= (discrete ? 26 : 4), qPrintable(QString::number(faults)));
    }

    void aLostDeviceStaysLost() {
        const auto backend = openVulkan(0);
        const auto runner = makeRunner(m_model, placeAll(*m_model, backend));
        Session session = runner->newSession();
        runner->append(session, std::vector<TokenId>{1, 2, 3});
        vulkanLayer().failCall(VulkanCall::Wait, 1, VK_ERROR_DEVICE_LOST);
        for (int i = 0; i < 3; ++i)
            try {
                runner->append(session, std::vector<TokenId>{4});
                QFAIL("a lost device answered");
            } catch (const Error& error) {
                QCOMPARE(error.exitCode(), 6);
                QCOMPARE(session.length(), 3);
            }
    }

    void noMemoryAtAnyAllocation() {
        vulkanLayer().discrete = true; // uploads need memory of their own
        const auto right = run(m_model, openVulkan(0));
        const int faults = sweep(VulkanCall::Allocate, VK_ERROR_OUT_OF_DEVICE_MEMORY,
                                 ErrorKind::OutOfMemory, right);
        QVERIFY2(faults >= 3, qPrintable(QString::number(faults)));
        // What the host writes for every step need not lie in the device's own memory.
        QCOMPARE(m_survived, 1);
    }

    void noMemoryAtAnyCall() {
        const auto right = run(m_model, openVulkan(0));
        const int faults =
            sweep(VulkanCall::Any, VK_ERROR_OUT_OF_DEVICE_MEMORY, ErrorKind::OutOfMemory, right, 5);
        QVERIFY2(faults >= 50, qPrintable(QString::number(faults)));
        QCOMPARE(m_survived, 0);
    }

    /// The backend that had no memory is used again: what failed has left nothing half done.
    void theSameDeviceWorksAfterwards() {
        const auto right = run(m_model, openVulkan(0));
        const auto backend = openVulkan(0);
        for (uint64_t n = 1; n < 40; n += 3) {
            vulkanLayer().faults = 0;
            const Outcome failed =
                runWith(m_model, VulkanCall::Any, n, VK_ERROR_OUT_OF_DEVICE_MEMORY, backend);
            QVERIFY(vulkanLayer().faults == 1);
            // A failed wait is the end of a device: it is not known what still runs.
            if (failed.sentence.find("vkWaitForFences") != std::string::npos)
                break;
            QCOMPARE(failed.kind, 5);
            QVERIFY2(run(m_model, backend) == right, qPrintable(QString::number(n)));
        }
    }

    /// A recording that failed half way is not replayed.
    void theSameRunnerWorksAfterwards() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openVulkan(0)));
        const std::vector<TokenId> prompt{3, 1, 4, 1, 5};
        std::vector<std::vector<float>> answers;
        for (uint64_t n : {2, 3, 4, 10, 20, 0}) {
            Session session = runner->newSession();
            vulkanLayer().failCall(VulkanCall::Create, n, VK_ERROR_OUT_OF_DEVICE_MEMORY);
            try {
                answers.push_back(runner->append(session, prompt));
                QCOMPARE(n, uint64_t(0));
            } catch (const Error& error) {
                QCOMPARE(error.exitCode(), 5);
                QCOMPARE(session.length(), 0);
            }
        }
        Session session = runner->newSession();
        QVERIFY(runner->append(session, prompt) == answers.at(0));
        QVERIFY(answers[0] == freshAnswer(prompt));
    }

    void theSentenceSaysHowMuchIsShort() {
        vulkanLayer().budget = 3 << 20;
        try {
            RunOptions options;
            options.placement = placeAll(*m_model, openVulkan(0));
            options.context = 1 << 16;
            options.maxRows = 16;
            const Runner runner(m_model, options);
            QFAIL("a cache of 16 MB fit into 3");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 5);
            const QString text = error.what();
            QVERIFY2(text.contains("The KV cache needs") && text.contains("MB too few") &&
                         text.contains("choose a smaller level or context"),
                     error.what());
        }
        vulkanLayer().budget = 0;
        QCOMPARE(vulkanLayer().liveBytes.load(), int64_t(0));
    }
};

QTEST_GUILESS_MAIN(TestVulkanFaults)
#include "test_vulkan_faults.moc"
