// ctest: TIMEOUT=600 COST=60
#include "core/runtime/doctor.h"
#include "core/runtime/vulkan/paths.h"
#include "tests/runtime/doctor_listing.h"
#include "tests/runtime/vulkan_support.h"

#include <QTest>

using namespace nibble;
using namespace nibble::test;

/// The doctor on a device with a kernel that computes something else.
class TestDoctorFinds : public QObject {
    Q_OBJECT
private slots:
    void cleanup() { qunsetenv("NIBBLE_VULKAN_CORRUPT"); }

    void aWrongKernelIsNamedAndReplaced_data() {
        QTest::addColumn<QByteArray>("module");
        QTest::addColumn<QString>("path"); // as checks name it, with it and without it
        QTest::addColumn<QString>("without");
        QTest::newRow("dot") << QByteArray("product_dot") << ", dot"
                             << ", no dot";
        QTest::newRow("broadcast") << QByteArray("product_dot_broadcast") << ", broadcast, dot"
                                   << ", dot";
    }
    void aWrongKernelIsNamedAndReplaced() {
        QFETCH(QByteArray, module);
        QFETCH(QString, path);
        QFETCH(QString, without);
        NIBBLE_NEED_LAVAPIPE(backend);
        VulkanPaths& paths = *vulkanPaths(*backend);
        if (!paths.broadcast && module.endsWith("broadcast"))
            QSKIP("subgroups of neither 8 nor 16 here");
        paths.broadcast = module.endsWith("broadcast");
        // Constant 3 is the zero of a code: 7 instead of 8.
        qputenv("NIBBLE_VULKAN_CORRUPT", module + ":3=7");
        const DoctorReport report = runDoctor(*backend);
        QVERIFY2(report.failed() == 1, listing(report));
        // What ran after the failure ran without that path, and was right.
        bool failed = false;
        int after = 0;
        for (const DoctorCheck& check : report.checks) {
            const QString name = QString::fromStdString(check.path);
            if (!check.passed)
                QVERIFY2(name.endsWith(path), listing(report));
            QVERIFY2(!failed || !name.endsWith(path), qPrintable(name));
            after += failed && name.endsWith(without) ? 1 : 0;
            failed = failed || !check.passed;
        }
        QVERIFY(after > 10);
    }

    void aWrongOutlierPathIsNamedAndReplaced() {
        NIBBLE_NEED_LAVAPIPE(backend);
        // Constant 36 is what preparing rows leaves out of the codes: nothing at all.
        qputenv("NIBBLE_VULKAN_CORRUPT", "prepare:36=0");
        const DoctorReport report = runDoctor(*backend);
        QVERIFY2(report.failed() == 1, listing(report));
        for (const DoctorCheck& check : report.checks)
            if (!check.passed)
                QVERIFY2(check.note.find("with outliers are converted") != std::string::npos,
                         listing(report));
    }
};

QTEST_GUILESS_MAIN(TestDoctorFinds)
#include "test_doctor_finds.moc"
