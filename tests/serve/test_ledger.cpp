// ctest: LABELS=full TIMEOUT=600
// What the ledger says before loading, against what is used afterwards, measured from outside the
// allocators: by a layer in front of the Vulkan driver, and by the operating system.
#include "core/serve/engine.h"
#include "tests/support/patience.h"
#include "tests/support/vulkan_layer/use_layer.h"

#include <QCoreApplication>
#include <QProcess>
#include <QTest>

#include <cstdio>

using namespace nibble;
using namespace nibble::test;

namespace {

constexpr int32_t kContext = 512;

EngineOptions on(const char* device) {
    EngineOptions options;
    options.device = device;
    options.context = kContext;
    return options;
}

/// A running model that has read so many tokens.
struct Running {
    std::unique_ptr<Runner> runner;
    Session session;

    Running(const std::shared_ptr<const Model>& model, const char* level, const char* device,
            int32_t count) {
        runner = loadRunner(model, levelRecipe(level, *model), on(device));
        session = runner->newSession();
        std::vector<TokenId> tokens(static_cast<size_t>(count));
        for (size_t i = 0; i < tokens.size(); ++i)
            tokens[i] = static_cast<TokenId>(i * 31 % 32000);
        runner->append(session, tokens);
    }
};

/// The child process: prints the growth of its resident memory.
int measureResident(const char* level) {
    const auto model = makeSyntheticModel("100m");
    {
        // What a process pays once: threads, tables, the C library's first arena.
        const auto tiny = makeSyntheticModel("tiny");
        EngineOptions small = on("cpu");
        small.context = 64;
        const auto runner = loadRunner(tiny, levelRecipe(level, *tiny), small);
        Session session = runner->newSession();
        runner->append(session, std::vector<TokenId>{1, 2, 3});
    }
    const uint64_t before = residentBytes();
    const Running running(model, level, "cpu", kContext); // fills the cache
    std::printf("%llu\n", static_cast<unsigned long long>(residentBytes() - before));
    return 0;
}

DeviceInfo infoOf(const char* device) {
    return openDevice(device)->info();
}

} // namespace

class TestLedger : public QObject {
    Q_OBJECT

    static void compare(uint64_t predicted, uint64_t used) {
        const double off = 100 * (double(predicted) / double(used) - 1);
        qInfo("predicted %.2f MB, used %.2f MB: %+.2f %%", double(predicted) * 1e-6,
              double(used) * 1e-6, off);
        QVERIFY2(std::abs(off) < 5, qPrintable(QString::number(off)));
    }
    static void levels() {
        QTest::addColumn<QString>("level");
        for (const char* level : {"int4", "q8_0"})
            QTest::addRow("%s", level) << QString(level);
    }

private slots:
    void vulkan_data() { levels(); }
    void vulkan() {
        QFETCH(QString, level);
        NIBBLE_NEED_LAYER();
        const auto model = makeSyntheticModel("100m");
        const DeviceInfo device = infoOf("vulkan:0");
        const Ledger ledger = Engine::predictedMemory(
            *model, levelRecipe(level.toStdString(), *model), on("vulkan:0"), device);
        const int64_t before = vulkanLayer().liveBytes;
        // A few tokens suffice: allocations do not depend on how full the cache is.
        const Running running(model, qPrintable(level), "vulkan:0", 4);
        const MemoryUse said = running.runner->memory();
        qInfo("weights %.2f of %.2f, kv %.2f of %.2f, scratch %.2f of %.2f",
              double(said.weights) * 1e-6, double(ledger.use.weights) * 1e-6,
              double(said.kv) * 1e-6, double(ledger.use.kv) * 1e-6, double(said.scratch) * 1e-6,
              double(ledger.use.scratch) * 1e-6);
        compare(ledger.use.total(), uint64_t(vulkanLayer().liveBytes - before));
        compare(said.total(), uint64_t(vulkanLayer().liveBytes - before));
    }

    void cpu_data() { levels(); }
    void cpu() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        QSKIP("a sanitizer's own memory is resident as well");
#endif
        QFETCH(QString, level);
        const auto model = makeSyntheticModel("100m");
        const Ledger ledger = Engine::predictedMemory(
            *model, levelRecipe(level.toStdString(), *model), on("cpu"), infoOf("cpu"));
        QProcess child;
        child.start(QCoreApplication::applicationFilePath(), {"--resident", level});
        QVERIFY(child.waitForFinished(seconds(300)));
        QCOMPARE(child.exitCode(), 0);
        compare(ledger.use.total(), child.readAllStandardOutput().trimmed().toULongLong());
    }
};

int main(int argc, char** argv) {
    if (argc == 3 && std::string_view(argv[1]) == "--resident")
        return measureResident(argv[2]);
    QCoreApplication app(argc, argv);
    TestLedger test;
    return QTest::qExec(&test, argc, argv);
}

#include "test_ledger.moc"
