// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/base/mapped_file.h"
#include "core/runtime/doctor_checks.h"
#include "core/runtime/probe.h"
#include "core/runtime/vulkan/open.h"
#include "core/tensor/format.h"
#include "tests/runtime/vulkan_support.h"

#include <QElapsedTimer>
#include <QFile>
#include <QTemporaryDir>

using namespace nibble;

class TestProbe : public QObject {
    Q_OBJECT
    QTemporaryDir m_cache;
    QByteArray m_found; ///< the file of the first probe
    QString kept() const { return m_cache.filePath("nibble/kernels.json"); }

    QByteArray read() const {
        QFile file(kept());
        return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    }
    void write(const QByteArray& text) const {
        QFile file(kept());
        QVERIFY(file.open(QIODevice::WriteOnly | QIODevice::Truncate));
        file.write(text);
    }

    static double worstProduct(Backend& backend) {
        const auto reference = openCpu(CpuMode::Scalar);
        double worst = 0;
        for (const int32_t rows : {1, 2, 4, 8, 16, 20})
            worst = std::max(worst, productError(backend, *reference, getFormat("q4_k"),
                                                 {ActivationFormat::Int8Block32}, {.rows = rows})
                                        .value_or(0));
        return worst;
    }

private slots:
    void initTestCase() { qputenv("XDG_CACHE_HOME", m_cache.path().toUtf8()); }
    void init() { QFile::remove(kept()); }

    void choosesAndKeeps() {
        NIBBLE_NEED_LAVAPIPE(backend);
        QVERIFY(!kernelChoice(*backend)->measured);
        probeKernels(*backend);
        const KernelChoice chosen = *kernelChoice(*backend);
        QVERIFY(chosen.measured);
        QVERIFY(worstProduct(*backend) <= 1);
        const auto& limits =
            dynamic_cast<VulkanBackend&>(*backend).context().uploader.device->limits();
        for (uint32_t i = 0; i < chosen.products.size(); ++i)
            QVERIFY(isKernel(chosen.products[i], 1u << i, limits));
        qInfo("%s", chosen.text().c_str());

        const QByteArray before = m_found = read();
        QVERIFY(before.contains("products"));
        NIBBLE_NEED_LAVAPIPE(again);
        QElapsedTimer timer;
        timer.start();
        probeKernels(*again);
        QVERIFY2(timer.elapsed() < 500, qPrintable(QString::number(timer.elapsed())));
        QCOMPARE(kernelChoice(*again)->products, chosen.products);
        QCOMPARE(read(), before);
    }

    /// What a file says is used where the device can run it, and else found again.
    void whatIsKeptIsChecked_data() {
        QTest::addColumn<QByteArray>("products");
        QTest::addColumn<bool>("used");
        QTest::newRow("good") << QByteArray("[[128,1,2,0],[128,1,2,0],[64,2,2,0],[64,1,1,0],"
                                            "[64,1,1,0]]")
                              << true;
        QTest::newRow("too large") << QByteArray("[[4096,1,1,0],[64,1,1,0],[64,1,1,0],[64,1,1,0],"
                                                 "[64,1,1,0]]")
                                   << false;
        QTest::newRow("no power of two")
            << QByteArray("[[96,1,1,0],[64,1,1,0],[64,1,1,0],[64,1,1,0],[64,1,1,0]]") << false;
        QTest::newRow("too few") << QByteArray("[[64,1,1,0]]") << false;
    }
    void whatIsKeptIsChecked() {
        QFETCH(QByteArray, products);
        QFETCH(bool, used);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto at = m_found.indexOf("\"products\": ");
        QVERIFY(at > 0);
        const QByteArray text = m_found.left(at) + "\"products\": " + products + "}}";
        write(text);
        probeKernels(*backend);
        QVERIFY(kernelChoice(*backend)->measured);
        QCOMPARE(read() == text, used);
        if (used) {
            QCOMPARE(kernelChoice(*backend)->products[0], (ProductTiling{128, 1, 2, false}));
            QVERIFY(worstProduct(*backend) <= 1);
        }
    }

    /// A variant that computes wrongly is not chosen, however fast it is.
    void wrongKernelsStayOut() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const ProductTilings table = kernelChoice(*backend)->products;
        qputenv("NIBBLE_VULKAN_CORRUPT",
                (vulkanPaths(*backend)->broadcast ? QByteArray("product_dot_broadcast:")
                                                  : QByteArray("product_dot:")) +
                    QByteArray::number(ID_M) + "=3");
        probeKernels(*backend);
        qunsetenv("NIBBLE_VULKAN_CORRUPT");
        QCOMPARE(kernelChoice(*backend)->products, table);
    }

    void forcing() {
        NIBBLE_NEED_LAVAPIPE(backend);
        forceKernels(*backend, {"dot,broadcast,tails", "128x1x1"});
        QVERIFY(!kernelChoice(*backend)->dot && !kernelChoice(*backend)->broadcast);
        QVERIFY(!vulkanPaths(*backend)->tails);
        QCOMPARE(kernelChoice(*backend)->products[2], (ProductTiling{128, 1, 1, false}));
        QVERIFY(worstProduct(*backend) <= 1);
        for (const char* wrong : {"fast", "96x1x1", "128x1", "128x1x1x", "4096x1x1", "x"})
            QVERIFY_THROWS_EXCEPTION(Error, forceKernels(*backend, {"", wrong}));
        QVERIFY_THROWS_EXCEPTION(Error, forceKernels(*backend, {"speed", ""}));
        QVERIFY_THROWS_EXCEPTION(Error, forceKernels(*openCpu(), {"dot", ""}));
    }
};

QTEST_GUILESS_MAIN(TestProbe)
#include "test_probe.moc"
