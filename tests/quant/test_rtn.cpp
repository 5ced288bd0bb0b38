#include "core/base/half.h"
#include "core/base/random.h"
#include "core/quant/method.h"
#include "core/tensor/planes.h"

#include <QTest>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

using namespace nibble;

namespace {

std::vector<float> gaussian(size_t count, uint64_t seed, double sigma = 1) {
    Random random(seed);
    std::vector<float> values(count);
    for (float& value : values)
        value = static_cast<float>(sigma * random.normal());
    return values;
}

Tensor floats(const std::vector<float>& values, int64_t rows) {
    return makeFloatTensor("blk.0.test", getFormat("f32"), rows,
                           static_cast<int64_t>(values.size()) / rows, values);
}

double squaredError(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i)
        sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    return sum;
}

double sqnr(const std::vector<float>& values, const Tensor& tensor) {
    double power = 0;
    for (const float value : values)
        power += double(value) * value;
    return 10 * std::log10(power / squaredError(values, decode(tensor)));
}

} // namespace

class TestRtn : public QObject {
    Q_OBJECT
private slots:
    void everyFormatButTernaryIsMade() {
        for (const Format& format : formats())
            QCOMPARE(getMethod("rtn").refuses(format) != nullptr,
                     format.isFloat() || std::string_view(format.name).starts_with("tq"));
        QVERIFY_EXCEPTION_THROWN(
            quantize(floats(gaussian(256, 1), 1), getFormat("tq2_0"), getMethod("rtn")), Error);
        QVERIFY_EXCEPTION_THROWN(getMethod("gptx"), Error);
    }

    void gaussianSignalToNoise() {
        // Plain 8 bits with a scale for 32 values reach 45.4 dB; the searched scale adds up to one.
        const std::vector<float> values = gaussian(512 * 1024, 5);
        const auto measure = [&](const char* format) {
            return sqnr(values, quantize(floats(values, 512), getFormat(format), getMethod("rtn")));
        };
        const double g32 = measure("int8_g32");
        QVERIFY2(g32 > 45.4 - 0.3 && g32 < 46.4, qPrintable(QString::number(g32)));
        QCOMPARE(measure("q8_0"), g32);
        // Uniform quantizers of known statistics: more bits, finer groups and offsets help.
        const double i4 = measure("int4_g32"), i4g128 = measure("int4_g128"), q41 = measure("q4_1");
        qInfo("SQNR dB: int8 %.2f int8_g32 %.2f int4_g32 %.2f int4_g64 %.2f int4_g128 %.2f "
              "int4_g32z %.2f q4_1 %.2f",
              measure("int8"), g32, i4, measure("int4_g64"), i4g128, measure("int4_g32z"), q41);
        // 16 levels cannot exceed the optimal uniform quantizer by more than what a fitted scale
        // of 32 values adds; the optimum for one fixed scale is 20.22 dB (Max 1960).
        QVERIFY(i4g128 > 19.5 && i4g128 < i4 && i4 < q41 && q41 < 24);
        QVERIFY(g32 - i4 > 20 && g32 - i4 < 26); // four bits of 6 dB, less what clipping gains
    }

    void importanceMovesTheErrorAway() {
        const int64_t rows = 16, cols = 128;
        const std::vector<float> values = gaussian(size_t(rows * cols), 13);
        std::vector<float> importance(static_cast<size_t>(cols), 1.0f);
        for (size_t i = 0; i < 8; ++i)
            importance[i] = 1000;
        const Tensor base = floats(values, rows);
        const auto weighted = [&](const Tensor& tensor) {
            const std::vector<float> decoded = decode(tensor);
            double sum = 0;
            for (size_t i = 0; i < values.size(); ++i)
                sum += importance[i % size_t(cols)] * std::pow(double(values[i]) - decoded[i], 2);
            return sum;
        };
        const Method& rtn = getMethod("rtn");
        const Format& format = getFormat("int4_g64");
        QVERIFY(weighted(quantize(base, format, rtn, importance)) <
                weighted(quantize(base, format, rtn)));
        importance[3] = std::numeric_limits<float>::quiet_NaN();
        QVERIFY_EXCEPTION_THROWN(quantize(base, format, rtn, importance), Error);
        importance.resize(5);
        QVERIFY_EXCEPTION_THROWN(quantize(base, format, rtn, importance), Error);
    }

    void notANumberIsNamed() {
        for (const char* format : {"int8", "q4_0", "q4_1", "int4_g32z", "f16", "f32"})
            for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                                    std::numeric_limits<float>::infinity()}) {
                std::vector<float> values = gaussian(4 * 64, 19);
                values[2 * 64 + 37] = bad;
                try {
                    quantize(floats(values, 4), getFormat(format), getMethod("rtn"));
                    QFAIL("a value that is no number must be refused");
                } catch (const Error& error) {
                    const std::string text = error.what();
                    QCOMPARE(error.exitCode(), 3);
                    QVERIFY(text.find("blk.0.test") != std::string::npos);
                    QVERIFY(text.find("row 2, column 37") != std::string::npos);
                }
            }
        // Finite, but beyond half precision.
        QVERIFY_EXCEPTION_THROWN(quantize(floats({1e6f, 1}, 1), getFormat("f16"), getMethod("rtn")),
                                 Error);
    }

    void cancelStopsWithinAQuarterSecond() {
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        QuantizeInput input{
            .name = "endless", .rows = 1 << 20, .cols = 4096, .values = {}, .importance = {}};
        // Few stored values, so that the test needs little memory.
        input.rows = 1 << 14;
        input.values = [](int64_t begin, int64_t end, float* out) {
            for (int64_t i = 0; i < (end - begin) * 4096; ++i)
                out[i] = static_cast<float>((begin * 31 + i * 17) % 101) - 50;
        };
        std::chrono::steady_clock::time_point asked;
        std::thread user([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            asked = std::chrono::steady_clock::now();
            *progress.cancel = true;
        });
        bool cancelled = false;
        try {
            quantize(input, getFormat("int4_g128"), getMethod("rtn"), progress);
        } catch (const Error& error) {
            cancelled = error.kind() == ErrorKind::Cancelled;
        }
        const auto stopped = std::chrono::steady_clock::now();
        user.join();
        QVERIFY(cancelled);
        QVERIFY(stopped - asked < std::chrono::milliseconds(250));
    }
};

QTEST_GUILESS_MAIN(TestRtn)
#include "test_rtn.moc"
