// ctest: TIMEOUT=600 COST=60
#include "core/runtime/doctor.h"
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
};

QTEST_GUILESS_MAIN(TestDoctorFinds)
#include "test_doctor_finds.moc"
