// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1 COST=60
#include "core/runtime/doctor.h"
#include "tests/runtime/doctor_listing.h"
#include "tests/runtime/vulkan_support.h"

#include <QTest>

using namespace nibble;
using namespace nibble::test;

class TestVulkanDoctor : public QObject {
    Q_OBJECT
private slots:
    /// Other widths are tried by runtime.vulkan_drivers.
    void initTestCase() { qputenv("LP_NATIVE_VECTOR_WIDTH", "256"); }

    void everyPathIsRight() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const DoctorReport report = runDoctor(*backend);
        QVERIFY2(report.failed() == 0, listing(report));
        QVERIFY(report.checks.size() > 2 * coveringFormats().size() - 3);
    }

    void theCpuIsRight() {
        const auto cpu = openCpu();
        const DoctorReport report = runDoctor(*cpu);
        QVERIFY2(report.failed() == 0, listing(report));
    }
};

QTEST_GUILESS_MAIN(TestVulkanDoctor)
#include "test_vulkan_doctor.moc"
