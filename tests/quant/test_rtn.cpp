#include "core/base/half.h"
#include "core/base/random.h"
#include "core/quant/group_fit.h"
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

std::vector<const Format*> fittedFormats() {
    std::vector<const Format*> all;
    for (const Format& format : formats())
        if (!format.isFloat() && !getMethod("rtn").refuses(format))
            all.push_back(&format);
    return all;
}

/// One group by hand: raw scale, raw offset, codes.
struct Fitted {
    GroupFit fit;
    std::vector<uint8_t> codes;
};
Fitted plain(const char* format, std::vector<float> x) {
    Fitted out;
    out.codes.resize(x.size());
    const std::vector<float> ones(x.size(), 1.0f);
    out.fit = fitPlain(getFormat(format), x, ones, out.codes.data());
    return out;
}

} // namespace

class TestRtn : public QObject {
    Q_OBJECT
private slots:
    void everyFormatOfTheIssueIsMade() {
        for (const char* name :
             {"int8", "int8_g128", "int8_g32", "int4_g32", "int4_g64", "int4_g128", "int4_g32z",
              "int4_g64z", "int4_g128z", "q8_0", "q4_0", "q4_1"})
            QVERIFY2(!getMethod("rtn").refuses(getFormat(name)), name);
        for (const char* name : {"q4_k", "q6_k", "iq4_nl", "mxfp4", "tq2_0"})
            QVERIFY2(getMethod("rtn").refuses(getFormat(name)), name);
        QVERIFY_EXCEPTION_THROWN(
            quantize(floats(gaussian(256, 1), 1), getFormat("q4_k"), getMethod("rtn")), Error);
        QVERIFY_EXCEPTION_THROWN(getMethod("gptx"), Error);
    }

    void plainGroupsByHand() {
        // Symmetric 8 bits: 127 takes the largest magnitude.
        Fitted a = plain("q8_0", {1.27f, -0.64f, 0.02f, 0});
        QCOMPARE(a.fit.scale, uint32_t(floatToHalf(0.01f)));
        QCOMPARE(a.codes, (std::vector<uint8_t>{127, uint8_t(-64), 2, 0}));
        // Symmetric 4 bits: −4 exactly at code −8 of scale 0.5, all values on the grid.
        Fitted b = plain("q4_0", {-4, 3.5f, 0.5f, -1});
        QCOMPARE(b.fit.scale, uint32_t(floatToHalf(0.5f)));
        QCOMPARE(b.codes, (std::vector<uint8_t>{0, 15, 9, 6}));
        QCOMPARE(b.fit.error, 0.0);
        // The mirror image takes the negative scale.
        Fitted c = plain("q4_0", {4, -3.5f, -0.5f, 1});
        QCOMPARE(c.fit.scale, uint32_t(floatToHalf(-0.5f)));
        QCOMPARE(c.fit.error, 0.0);
        // Zero points: −1 … 2 in 15 steps of 0.2 with 0 at code 5.
        Fitted d = plain("int4_g32z", {-1, 2, 0, 1});
        QCOMPARE(d.fit.offset, uint16_t(5));
        QCOMPARE(d.codes, (std::vector<uint8_t>{0, 15, 5, 10}));
        // Offsets: 10 … 13.75 in steps of 0.25 from 10.
        Fitted e = plain("q4_1", {10, 13.75f, 10.5f, 12});
        QCOMPARE(e.fit.scale, uint32_t(floatToHalf(0.25f)));
        QCOMPARE(e.fit.offset, floatToHalf(10));
        QCOMPARE(e.codes, (std::vector<uint8_t>{0, 15, 2, 8}));
        QCOMPARE(e.fit.error, 0.0);
    }

    void searchIsNeverWorseThanPlain() {
        for (const Format* format : fittedFormats()) {
            const size_t length = format->group == 0 ? 200 : format->group;
            std::vector<uint8_t> codes(length);
            Random random(7);
            double plainSum = 0, searchedSum = 0;
            for (int group = 0; group < 200; ++group) {
                const double sigma = std::exp2(random.uniform() * 12 - 8);
                std::vector<float> x = gaussian(length, random.next(), sigma);
                if (group % 3 == 0)
                    x[random.next() % length] *= 12;
                std::vector<float> weights(length, 1.0f);
                if (group % 2 == 0)
                    for (float& weight : weights)
                        weight = static_cast<float>(random.uniform());
                const double a = fitPlain(*format, x, weights, codes.data()).error;
                const double b = fitSearched(*format, x, weights, codes.data()).error;
                QVERIFY2(b <= a, format->name);
                plainSum += a;
                searchedSum += b;
            }
            QVERIFY2(searchedSum < plainSum, format->name);
        }
    }

    void reportedErrorIsTheDecodedError() {
        for (const Format* format : fittedFormats()) {
            const size_t length = format->group == 0 ? 200 : format->group;
            const std::vector<float> x = gaussian(length, 3), ones(length, 1.0f);
            std::vector<uint8_t> codes(length);
            const GroupFit fit = fitSearched(*format, x, ones, codes.data());
            TensorBuilder builder("t", *format, 1, static_cast<int64_t>(length));
            builder.setCodes(0, codes.data());
            builder.setScale(0, 0, fit.scale);
            if (format->offset != OffsetKind::None)
                builder.setOffset(0, 0, fit.offset);
            const double error = squaredError(x, decode(builder.finish()));
            // Two float64 sums of the same terms.
            QVERIFY2(std::abs(error - fit.error) <= double(length) * 0x1p-52 * error, format->name);
        }
    }

    void unclippedValuesAreWithinHalfAStep() {
        for (const Format* format : fittedFormats()) {
            const int64_t rows = 8, cols = 256;
            const std::vector<float> values = gaussian(size_t(rows * cols), 11);
            const Tensor tensor = quantize(floats(values, rows), *format, getMethod("rtn"));
            const std::vector<float> decoded = decode(tensor);
            std::vector<uint8_t> codes(static_cast<size_t>(cols));
            const int highest = format->bits == 8 ? 127 : (1 << format->bits) - 1;
            const int lowest = format->bits == 8 ? -127 : 0;
            for (int64_t row = 0; row < rows; ++row) {
                unpackCodes(tensor, row, codes.data());
                for (int64_t col = 0; col < cols; ++col) {
                    const int code = format->bits == 8
                                         ? int(static_cast<int8_t>(codes[size_t(col)]))
                                         : int(codes[size_t(col)]);
                    QVERIFY(code >= lowest);
                    if (code == lowest || code == highest)
                        continue;
                    const auto at = static_cast<size_t>(row * cols + col);
                    const GroupValues group =
                        groupValues(tensor, row, col / format->groupLength(cols));
                    // The decoded value is rounded to float32 once.
                    const double bound =
                        std::abs(group.scale) / 2 + std::abs(decoded[at]) * 0x1p-23;
                    QVERIFY2(std::abs(double(values[at]) - double(decoded[at])) <= bound,
                             format->name);
                }
            }
        }
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

    void zerosDenormalsAndExtremesSurvive() {
        for (const Format* format : fittedFormats()) {
            std::vector<float> values(4 * 256, 0.0f);
            for (size_t i = 256; i < 512; ++i) // far below every f16 scale
                values[i] = static_cast<float>(i % 7) * std::numeric_limits<float>::denorm_min();
            for (size_t i = 512; i < 768; ++i)
                values[i] = i % 2 ? 3e38f : -3e38f;
            for (size_t i = 768; i < 1024; ++i)
                values[i] = 2.5f; // constant
            const std::vector<float> decoded =
                decode(quantize(floats(values, 4), *format, getMethod("rtn")));
            for (size_t i = 0; i < decoded.size(); ++i) {
                QVERIFY2(std::isfinite(decoded[i]), format->name);
                if (i < 512)
                    QVERIFY2(std::abs(decoded[i]) <= 0x1p-24f, format->name);
                if (i >= 768) // within half a step and the rounding of an f16 scale
                    QVERIFY2(std::abs(decoded[i] - 2.5f) <= 2.5f * 0x1p-11f * 1.01f, format->name);
            }
        }
    }

    void rowsThatGroupsDoNotDivide() {
        for (const Format* format : fittedFormats()) {
            const std::vector<float> values = gaussian(5 * 45, 17);
            const Tensor tensor = quantize(floats(values, 5), *format, getMethod("rtn"));
            // A bit is worth some 5 dB; one scale for 45 normal values of 2 bits leaves 6.
            QVERIFY2(sqnr(values, tensor) > 5 * (format->bits - 1), format->name);
        }
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
