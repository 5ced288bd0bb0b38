// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1 COST=150
#include "core/runtime/doctor.h"
#include "tests/runtime/vulkan_support.h"

#include <QTest>

using namespace nibble;
using namespace nibble::test;

class TestVulkanDoctor : public QObject {
    Q_OBJECT

    static QByteArray listing(const DoctorReport& report) {
        QByteArray text;
        for (const DoctorCheck& check : report.checks)
            if (!check.passed)
                text += QByteArray::fromStdString(check.path) + " " +
                        QByteArray::number(check.error) + " > " + QByteArray::number(check.bound) +
                        " " + QByteArray::fromStdString(check.note) + "\n";
        return text;
    }

private slots:
    void cleanup() { qunsetenv("NIBBLE_VULKAN_CORRUPT"); }

    void everyPathIsRight() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const DoctorReport report = runDoctor(*backend);
        QVERIFY2(report.failed() == 0, listing(report));
        QVERIFY(report.checks.size() > 2 * coveringFormats().size() - 3);
    }

    void aWrongKernelIsNamedAndReplaced() {
        NIBBLE_NEED_LAVAPIPE(backend);
        // Constant 3 is the zero of a code: 7 instead of 8.
        qputenv("NIBBLE_VULKAN_CORRUPT", "product_dot:3=7");
        const DoctorReport report = runDoctor(*backend);
        QVERIFY(report.failed() > 0);
        for (const DoctorCheck& check : report.checks)
            if (!check.passed)
                QVERIFY2(QString::fromStdString(check.path).endsWith(", dot"), listing(report));
        // What ran after the first failure ran without the instruction, and was right.
        QVERIFY2(report.failed() == 1, listing(report));
        bool failed = false;
        int without = 0;
        for (const DoctorCheck& check : report.checks) {
            const QString path = QString::fromStdString(check.path);
            QVERIFY2(!failed || !path.endsWith(", dot"), qPrintable(path));
            without += failed && path.endsWith("no dot") ? 1 : 0;
            failed = failed || !check.passed;
        }
        QVERIFY(without > 10);
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

    void theCpuIsRight() {
        const auto cpu = openCpu();
        const DoctorReport report = runDoctor(*cpu);
        QVERIFY2(report.failed() == 0, listing(report));
    }
};

QTEST_GUILESS_MAIN(TestVulkanDoctor)
#include "test_vulkan_doctor.moc"
