// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1 COST=145
#include "core/runtime/doctor_checks.h"
#include "core/tensor/planes.h"
#include "tests/runtime/vulkan_support.h"

using namespace nibble;

/// Products of shapes that fill neither tiles, nor blocks, nor groups, in every format.
class TestOddShapes : public QObject {
    Q_OBJECT

    static constexpr ProductShape kShapes[] = {
        {1, 32, 1},  {2, 40, 7},     {3, 96, 17},  {4, 160, 16},   {5, 288, 33},  {7, 544, 40},
        {8, 84, 47}, {16, 256, 333}, {20, 64, 15}, {33, 320, 100}, {1, 1000, 31}, {17, 992, 2}};

private slots:
    void products_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<int>("activations");
        constexpr ActivationFormat kInt8[] = {
            ActivationFormat::Int8Block32, ActivationFormat::Int8Block64,
            ActivationFormat::Int8Block128, ActivationFormat::Int8Token,
            ActivationFormat::Int8Static};
        size_t next = 0;
        for (const Format* covering : coveringFormats()) {
            const Format& format = *covering;
            QTest::addRow("%s float", format.name)
                << QString(format.name) << int(ActivationFormat::Float);
            if (!format.isFloat()) {
                const ActivationFormat as = kInt8[next++ % std::size(kInt8)];
                QTest::addRow("%s %s", format.name, std::string(name(as)).c_str())
                    << QString(format.name) << int(as);
            }
        }
    }
    void products() {
        QFETCH(QString, format);
        QFETCH(int, activations);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto reference = openCpu(CpuMode::Scalar);
        const Format& f = getFormat(format.toStdString());
        // Two shapes a row, so that every (M, shape) meets several formats.
        static size_t next = 0;
        int run = 0;
        for (size_t tried = 0; run < 2 && tried < std::size(kShapes); ++tried) {
            const ProductShape shape = kShapes[next++ % std::size(kShapes)];
            if (f.super && shape.inputs % f.rowUnit() != 0)
                continue; // such a tensor does not exist
            const auto error = productError(*backend, *reference, f,
                                            static_cast<ActivationFormat>(activations), shape);
            if (!error)
                continue; // no kernel for this length: converted, and its path says so
            ++run;
            QVERIFY2(*error <= 1, qPrintable(QString("%1 rows, %2 inputs, %3 outputs: %4 bounds")
                                                 .arg(shape.rows)
                                                 .arg(shape.inputs)
                                                 .arg(shape.outputs)
                                                 .arg(*error)));
        }
        QVERIFY2(run > 0, "no shape ran in this format");
    }

    /// Outlier columns with or without values beyond a threshold, which any number of them reach.
    void outliers_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<int>("activations");
        QTest::addColumn<float>("threshold");
        for (const char* format : {"int8", "int8_g32", "q8_0", "int8_g128_s8"})
            for (const ActivationFormat as :
                 {ActivationFormat::Float, ActivationFormat::Int8Block32,
                  ActivationFormat::Int8Token, ActivationFormat::Int8Static})
                QTest::addRow("%s %s", format, std::string(name(as)).c_str())
                    << QString(format) << int(as) << 6.0f;
        for (const float threshold : {0.01f, 1.5f, 1e9f})
            for (const char* format : {"int8", "int8_g32", "int4_g32z", "q4_k", "nf4"})
                QTest::addRow("%s from %g", format, double(threshold))
                    << QString(format) << int(ActivationFormat::Int8Outliers) << threshold;
    }
    void outliers() {
        QFETCH(QString, format);
        QFETCH(int, activations);
        QFETCH(float, threshold);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto reference = openCpu(CpuMode::Scalar);
        const Format& f = getFormat(format.toStdString());
        static size_t next = 0;
        int run = 0;
        for (size_t tried = 0; run < 2 && tried < std::size(kShapes); ++tried) {
            ProductShape shape = kShapes[next++ % std::size(kShapes)];
            if (f.super && shape.inputs % f.rowUnit() != 0)
                continue;
            shape.outlierColumns = zeroCodeIsZero(f) ? shape.inputs / 16 : 0;
            const auto error =
                productError(*backend, *reference, f,
                             {static_cast<ActivationFormat>(activations), threshold}, shape);
            if (!error)
                continue;
            ++run;
            QVERIFY2(*error <= 1, qPrintable(QString("%1 rows, %2 inputs, %3 outputs: %4 bounds")
                                                 .arg(shape.rows)
                                                 .arg(shape.inputs)
                                                 .arg(shape.outputs)
                                                 .arg(*error)));
        }
        QVERIFY2(run > 0, "no shape ran in this format");
    }

    void layers_data() {
        QTest::addColumn<int>("keys");
        QTest::addColumn<int>("values");
        constexpr KvFormat kAll[] = {KvFormat::F32, KvFormat::F16, KvFormat::Int8, KvFormat::Int4};
        for (const KvFormat k : kAll)
            for (const KvFormat v : kAll)
                QTest::addRow("K %s V %s", std::string(name(k)).c_str(),
                              std::string(name(v)).c_str())
                    << int(k) << int(v);
    }
    void layers() {
        QFETCH(int, keys);
        QFETCH(int, values);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto reference = openCpu(CpuMode::Scalar);
        const auto k = static_cast<KvFormat>(keys), v = static_cast<KvFormat>(values);
        for (const int32_t rows : {1, 33}) {
            const double error = layerError(*backend, *reference, rows, k, v);
            QVERIFY2(error <= layerBound(k, v), qPrintable(QString::number(error)));
        }
    }
};

QTEST_GUILESS_MAIN(TestOddShapes)
#include "test_odd_shapes.moc"
