// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/quant/quantizer.h"
#include "tests/runtime/family_switches.h"

#include <QTemporaryDir>

#include <set>

using namespace nibble;
using namespace nibble::test;

class TestFamilies : public QObject {
    Q_OBJECT
    std::vector<Family> m_families = families();

private slots:

    void everyFamilyIsHere() {
        std::set<std::string> known, tested;
        for (const Architecture* a : architectures())
            known.insert(a->huggingFaceClass);
        for (const Family& f : m_families)
            tested.insert(f.huggingFaceClass);
        QVERIFY(known == tested);
    }

    void family_data() {
        QTest::addColumn<int>("index");
        for (size_t i = 0; i < m_families.size(); ++i)
            QTest::addRow("%s", m_families[i].huggingFaceClass.c_str()) << int(i);
    }
    void family() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, tensors, path);
        const std::vector<TokenId> tokens = prompt();
        const std::vector<float> expected =
            PlainDecoder(f.facts, f.shape, f.names, tensors)
                .logits(std::vector<int>(tokens.begin(), tokens.end()));

        const auto model = openModel(path);
        QCOMPARE(model->unsupported, std::string());
        checkBackends(model, expected);
        exportGguf(*model, Recipe{}, path / "model.gguf", {});
        const auto file = openModel(path / "model.gguf");
        QCOMPARE(file->unsupported, std::string());
        const double error = relativeError(logitsOf(file, openCpu()), expected);
        QVERIFY2(error < kRounding, qPrintable(QString("gguf: %1").arg(error)));
        checkSwitches(model, expected);
    }

    void onVulkan_data() { family_data(); }
    void onVulkan() {
        QFETCH(int, index);
        NIBBLE_NEED_LAVAPIPE(backend);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, randomTensors(f), path);
        const auto model = openModel(path);
        const auto expected = logitsOf(model, openCpu(CpuMode::Scalar));
        for (const bool oneByOne : {false, true}) {
            const double error = relativeError(logitsOf(model, backend, oneByOne), expected);
            QVERIFY2(error < kRounding, qPrintable(QString::number(error)));
        }
        checkApart(model, backend, expected);
    }
};

QTEST_GUILESS_MAIN(TestFamilies)
#include "test_families.moc"
