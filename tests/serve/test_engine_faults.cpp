// The window's engine when the driver fails: the error arrives as one, and the next load works.
#include "core/serve/device_queue.h"
#include "core/serve/engine.h"
#include "tests/support/shared_data.h"
#include "tests/support/vulkan_layer/use_layer.h"

#include <QTest>
#include <vulkan/vulkan_core.h>

using namespace nibble;
using namespace nibble::test;

namespace {

constexpr const char* kModel = "models/stories260K-f32.gguf";

EngineOptions on(const char* device) {
    EngineOptions options;
    options.device = device;
    options.context = 128;
    return options;
}

ChatRequest greedy(int32_t tokens) {
    ChatRequest request;
    request.rawPrompt = "Once upon a time";
    request.options.sampler.temperature = 0;
    request.options.maxTokens = tokens;
    return request;
}

} // namespace

class TestEngineFaults : public QObject {
    Q_OBJECT
    DeviceQueue m_queue;
    Engine m_engine;
    std::shared_ptr<const Model> m_model;

    /// Runs work on the device thread; the kind and sentence of its Error, or 0.
    std::pair<int, std::string> perform(const std::function<void(const Progress&)>& work) {
        std::pair<int, std::string> outcome{-1, ""};
        m_queue.post(Priority::Chat, {}, work, [&](const Error* error) {
            outcome = error ? std::pair(error->exitCode(), std::string(error->what()))
                            : std::pair(0, std::string());
        });
        m_queue.drain();
        return outcome;
    }
    std::pair<int, std::string> open(const char* device, const Recipe& recipe = {}) {
        return perform([&](const Progress& p) { m_engine.open(m_model, recipe, on(device), p); });
    }
    std::pair<int, std::string> chat(std::string& text, int32_t tokens = 12) {
        text.clear();
        return perform([&](const Progress& p) {
            m_engine.chat(greedy(tokens), p,
                          [&](std::string_view piece, TokenId) { text += piece; });
        });
    }

private slots:
    void initTestCase() {
        NIBBLE_NEED_SHARED(kModel);
        m_model = openModel(sharedPath(kModel));
    }
    void init() { NIBBLE_NEED_LAYER(); }
    void cleanup() {
        perform([&](const Progress&) { m_engine.close(); });
        QCOMPARE(vulkanLayer().liveObjects.load(), int64_t(0));
    }

    void lostWhileAnswering() {
        std::string whole, part;
        QCOMPARE(open("cpu").first, 0);
        QCOMPARE(chat(whole).first, 0);
        QCOMPARE(open("vulkan:0").first, 0);
        vulkanLayer().failCall(VulkanCall::Wait, 6, VK_ERROR_DEVICE_LOST);
        const auto lost = chat(part);
        QCOMPARE(lost.first, 6);
        QVERIFY(QString::fromStdString(lost.second).contains("GPU stopped answering"));
        // What was already drawn stays, and is right.
        QVERIFY2(!part.empty() && whole.starts_with(part), part.c_str());
        // Asking again opens the device anew, where it is back.
        std::string again;
        QCOMPARE(chat(again).first, 0);
        QCOMPARE(again, whole);
        QCOMPARE(open("cpu").first, 0);
        QCOMPARE(chat(again).first, 0);
        QCOMPARE(again, whole);
        // And the GPU, when it is back.
        QCOMPARE(open("vulkan:0").first, 0);
        QCOMPARE(chat(again).first, 0);
        QCOMPARE(again, whole);
    }

    void lostWhileMeasuring() {
        QCOMPARE(open("vulkan:0").first, 0);
        EvaluationText text;
        for (int i = 0; i < 60; ++i)
            text.text += "Once upon a time there was a dog. ";
        EvaluateOptions options;
        options.context = 64;
        vulkanLayer().failCall(VulkanCall::Submit, 3, VK_ERROR_DEVICE_LOST);
        const auto lost = perform([&](const Progress& p) {
            m_engine.measure(levelRecipe("int4", *m_model), text, options, {}, p);
        });
        QCOMPARE(lost.first, 6);
        // The measured pair had a device of its own: what was running goes on.
        std::string answer;
        QCOMPARE(chat(answer).first, 0);
    }

    void noMemoryKeepsWhatRuns() {
        QCOMPARE(open("vulkan:0").first, 0);
        std::string before, after;
        QCOMPARE(chat(before).first, 0);
        vulkanLayer().budget = uint64_t(vulkanLayer().liveBytes.load()) + 100'000;
        EngineOptions all = on("vulkan:0");
        all.gpuLayers = m_model->config.layers;
        const auto full = perform([&](const Progress& p) {
            m_engine.open(m_model, levelRecipe("q8_0", *m_model), all, p);
        });
        QCOMPARE(full.first, 5);
        QVERIFY2(QString::fromStdString(full.second).contains(" too few; "), full.second.c_str());
        QVERIFY(m_engine.isOpen());
        QCOMPARE(chat(after).first, 0);
        QCOMPARE(after, before);
    }

    /// Where no number of layers is asked for, those that have no room run on the CPU, and the plan
    /// says so.
    void noMemoryLeavesLayersToTheCpu() {
        QCOMPARE(open("cpu").first, 0);
        std::string whole, again;
        QCOMPARE(chat(whole).first, 0);
        vulkanLayer().budget = uint64_t(vulkanLayer().liveBytes.load()) + 100'000;
        QCOMPARE(open("vulkan:0").first, 0);
        QCOMPARE(m_engine.plan().gpuLayers, 0);
        QVERIFY(m_engine.plan().isShort());
        QCOMPARE(m_engine.device().id, std::string("cpu"));
        QCOMPARE(chat(again).first, 0);
        QCOMPARE(again, whole);
    }

    /// An apply() that finds no memory for a tensor puts back what it has replaced.
    void noMemoryInTheMiddleOfApply() {
        QCOMPARE(open("vulkan:0", levelRecipe("int4", *m_model)).first, 0);
        std::string before, after;
        QCOMPARE(chat(before).first, 0);
        // The base's tensors are larger, so that they need new memory.
        vulkanLayer().failCall(VulkanCall::Allocate, 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
        const auto full =
            perform([&](const Progress& p) { m_engine.apply({}, on("vulkan:0"), p); });
        QCOMPARE(full.first, 5);
        QCOMPARE(chat(after).first, 0);
        QCOMPARE(after, before);
    }
};

QTEST_GUILESS_MAIN(TestEngineFaults)
#include "test_engine_faults.moc"
