// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/runtime/doctor_checks.h"
#include "core/runtime/kernel_bench.h"
#include "core/runtime/vulkan/open.h"
#include "core/tensor/planes.h"
#include "tests/runtime/vulkan_support.h"

using namespace nibble;

/// The kernels cut as on a GPU, on a software device: large workgroups, slices that interleave,
/// blocks loaded ahead, preparations shared by workgroups.
class TestTiling : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() { qputenv("NIBBLE_VULKAN_TILING", "gpu"); }

    /// Every number of rows that has a kernel; rows of few blocks leave most slices without one.
    void products_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<int>("activations");
        QTest::newRow("int4 in blocks") << "int4_g32" << int(ActivationFormat::Int8Block32);
        QTest::newRow("groups of 16") << "q6_k" << int(ActivationFormat::Int8Block32);
        QTest::newRow("zeros, a token's scale") << "int4_g128z" << int(ActivationFormat::Int8Token);
        QTest::newRow("a table, blocks of 128") << "nf4" << int(ActivationFormat::Int8Block128);
        QTest::newRow("outlier values") << "int8" << int(ActivationFormat::Int8Outliers);
        QTest::newRow("floats") << "f16" << int(ActivationFormat::Float);
        QTest::newRow("codes as floats") << "q4_k" << int(ActivationFormat::Float);
    }
    void products() {
        QFETCH(QString, format);
        QFETCH(int, activations);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto reference = openCpu(CpuMode::Scalar);
        for (const ProductShape shape :
             {ProductShape{1, 256, 33}, ProductShape{1, 2304, 17}, ProductShape{2, 1280, 64},
              ProductShape{4, 512, 100}, ProductShape{7, 1024, 40}, ProductShape{20, 768, 47}}) {
            const auto error =
                productError(*backend, *reference, getFormat(format.toStdString()),
                             Activations{static_cast<ActivationFormat>(activations), 1.5f}, shape);
            QVERIFY(error.has_value());
            QVERIFY2(*error <= 1, qPrintable(QString("%1 rows, %2 inputs: %3 bounds")
                                                 .arg(shape.rows)
                                                 .arg(shape.inputs)
                                                 .arg(*error)));
        }
    }

    void layers() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto reference = openCpu(CpuMode::Scalar);
        for (const int32_t rows : {1, 5, 40}) {
            const double error =
                layerError(*backend, *reference, rows, KvFormat::F16, KvFormat::F16);
            QVERIFY2(error <= layerBound(KvFormat::F16, KvFormat::F16),
                     qPrintable(QString::number(error)));
        }
    }

    /// A device with little shared memory gets smaller workgroups, never one that it cannot run.
    void everyTilingFitsTheDevice() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const VulkanContext& context = dynamic_cast<VulkanBackend&>(*backend).context();
        VkPhysicalDeviceLimits limits = context.uploader.device->limits();
        for (const int32_t rows : {1, 2, 4, 8, 16, 512}) {
            const ProductTiling& tiling = context.tiling.product(rows);
            QVERIFY(fits(tiling, static_cast<uint32_t>(std::min(rows, kWidestRows)), limits));
            QVERIFY(tiling.workgroup > 64 && tiling.spread);
        }
        limits.maxComputeSharedMemorySize = 16384;
        QVERIFY(!fits(context.tiling.product(16), 16, limits));
    }

    /// The ruler gives a number for each kernel asked for, and none beyond the device's own limits
    /// by more than a clock's error.
    void kernelsAreTimed_data() {
        QTest::addColumn<QString>("device");
        for (const char* device : {"vulkan", "cpu", "cpu:scalar"})
            QTest::newRow(device) << device;
    }
    void kernelsAreTimed() {
        QFETCH(QString, device);
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto backend = device == "vulkan" ? vulkan : openDevice(device.toStdString());
        KernelBenchOptions options;
        options.shapes = {{512, 1024}};
        options.formats = {"int4_g32", "f16"};
        options.rows = {1, 32};
        const KernelReport report = benchKernels(*backend, options);
        QVERIFY(report.readBandwidth > 1e6 && report.dotRate > 1e6);
        QCOMPARE(report.kernels.size(), size_t(4));
        for (const KernelTime& k : report.kernels) {
            QVERIFY(k.microseconds > 0);
            QCOMPARE(k.operations, 2.0 * 512 * 1024 * k.activationRows);
            QVERIFY(k.operations / k.microseconds * 1e6 < 10 * report.dotRate);
        }
    }
};

QTEST_GUILESS_MAIN(TestTiling)
#include "test_tiling.moc"
