#include "core/base/half.h"
#include "core/base/random.h"
#include "core/quant/group_batch.h"
#include "core/quant/row_fit.h"
#include "core/quant/stored_scale.h"

#include <QTest>
#include <cmath>
#include <limits>

using namespace nibble;

namespace {

std::vector<float> gaussian(size_t count, uint64_t seed, double sigma = 1) {
    Random random(seed);
    std::vector<float> values(count);
    for (float& value : values)
        value = static_cast<float>(sigma * random.normal());
    return values;
}

/// Student's t with six degrees of freedom: heavier tails than a normal distribution's.
std::vector<float> heavyTailed(size_t count, uint64_t seed) {
    Random random(seed);
    std::vector<float> values(count);
    for (float& value : values) {
        double squares = 0;
        for (int i = 0; i < 6; ++i)
            squares += std::pow(random.normal(), 2);
        value = static_cast<float>(random.normal() / std::sqrt(squares / 6));
    }
    return values;
}

std::vector<const Format*> fittedFormats() {
    std::vector<const Format*> all;
    for (const Format& format : formats())
        if (!cannotFit(format))
            all.push_back(&format);
    return all;
}

std::vector<float> ones(size_t count) {
    return std::vector<float>(count, 1.0f);
}

/// A row with its codes, and what decodeRows makes of it.
struct FittedRow {
    RowFit fit;
    std::vector<uint8_t> codes;
    std::vector<float> decoded;
};

std::vector<float> decodedRow(const Format& format, const RowFit& fit,
                              const std::vector<uint8_t>& codes) {
    TensorBuilder builder("row", format, 1, static_cast<int64_t>(codes.size()));
    storeRow(builder, 0, fit, codes.data());
    return decode(builder.finish());
}

FittedRow fitted(const Format& format, const std::vector<float>& x,
                 const std::vector<float>& weights) {
    FittedRow row;
    row.codes.resize(x.size());
    row.fit = fitRow(format, x, weights, row.codes.data());
    row.decoded = decodedRow(format, row.fit, row.codes);
    return row;
}

double weightedError(const std::vector<float>& x, const std::vector<float>& decoded,
                     const std::vector<float>& weights) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i)
        sum += double(weights[i]) * (double(x[i]) - decoded[i]) * (double(x[i]) - decoded[i]);
    return sum;
}

/// Every value that a group can hold, by the format's definition.
std::vector<float> representable(const Format& format, const GroupValues& group) {
    std::vector<float> values;
    for (int raw = 0; raw < 1 << format.bits; ++raw) {
        const int code = format.bits == 8 ? int(static_cast<int8_t>(raw)) : raw;
        if (format.bits == 8 && code == -128 && format.offset != OffsetKind::Zero)
            continue; // never made, see Levels
        float value =
            format.table
                ? static_cast<float>(group.scale * double(format.table->exact[size_t(code)]))
                : static_cast<float>(group.scale) * static_cast<float>(code - group.zero);
        if (format.offset == OffsetKind::Value || format.offset == OffsetKind::Code)
            value += group.offset;
        values.push_back(value);
    }
    return values;
}

/// The textbook: the largest magnitude (or the range) of each group over the outermost codes, and
/// for scales that are codes, the largest of those over theirs. Independent of what is tested.
RowFit plainFit(const Format& format, const std::vector<float>& x) {
    const auto cols = static_cast<int64_t>(x.size());
    const int64_t length = format.groupLength(cols), groups = format.groupCount(cols);
    std::vector<double> scales, offsets;
    RowFit fit;
    for (int64_t group = 0; group < groups; ++group) {
        const auto begin = x.begin() + group * length;
        const auto end = x.begin() + std::min(cols, (group + 1) * length);
        const double low = *std::min_element(begin, end), high = *std::max_element(begin, end);
        const double far = -low > high ? low : high, steps = (1 << format.bits) - 1;
        double scale = 0, offset = 0;
        if (format.offset == OffsetKind::Zero) {
            scale = (std::max(high, 0.0) - std::min(low, 0.0)) / steps;
            fit.offsets.push_back(static_cast<uint16_t>(
                scale > 0 ? std::clamp(std::round(-low / scale), 0.0, steps) : 0));
        } else if (format.offset != OffsetKind::None) {
            offset = format.offset == OffsetKind::Code ? std::min(low, 0.0) : low;
            scale = (high - offset) / steps;
        } else if (format.table) {
            scale = std::abs(far) /
                    std::max(-double(format.table->exact[0]), double(format.table->exact[7]));
        } else {
            scale = format.bits == 8 ? std::abs(far) / 127 : far / -format.zero;
        }
        scales.push_back(scale);
        offsets.push_back(offset);
    }
    if (format.offset == OffsetKind::Value)
        for (const double offset : offsets)
            fit.offsets.push_back(static_cast<uint16_t>(nearestHalf(offset).bits));
    if (format.scale != ScaleKind::Code) {
        for (const double scale : scales)
            fit.scales.push_back(nearestScale(format.scale, scale).bits);
        return fit;
    }
    const auto perSuper = static_cast<size_t>(
        format.super == Format::kWholeRow ? groups : format.super / format.group);
    for (size_t first = 0; first < scales.size(); first += perSuper) {
        const size_t last = std::min(scales.size(), first + perSuper);
        const auto store = [&](const std::vector<double>& all, double most, auto&& put) {
            double far = 0;
            for (size_t i = first; i < last; ++i)
                far = std::abs(all[i]) > std::abs(far) ? all[i] : far;
            const StoredNumber super = nearestHalf(far / most);
            for (size_t i = first; i < last; ++i)
                put(super.value == 0 ? 0
                                     : static_cast<int>(std::clamp(std::round(all[i] / super.value),
                                                                   0.0, most)));
            return static_cast<uint16_t>(super.bits);
        };
        const double most =
            format.scaleBits == 8 ? 127 : (1 << format.scaleBits) - 1 - format.scaleZero;
        fit.superScales.push_back(store(scales, most, [&](int code) {
            fit.scales.push_back(static_cast<uint32_t>(code + format.scaleZero));
        }));
        if (format.offset == OffsetKind::Code)
            fit.superOffsets.push_back(store(offsets, (1 << format.offsetBits) - 1, [&](int code) {
                fit.offsets.push_back(static_cast<uint16_t>(code));
            }));
    }
    return fit;
}

FittedRow plain(const Format& format, const std::vector<float>& x) {
    FittedRow row;
    row.fit = plainFit(format, x);
    const RowGrid grid(format, static_cast<int64_t>(x.size()), row.fit);
    for (size_t i = 0; i < x.size(); ++i)
        row.codes.push_back(grid.nearest(static_cast<int64_t>(i), x[i]).code);
    row.decoded = decodedRow(format, row.fit, row.codes);
    return row;
}

double sqnr(const Format& format, const std::vector<float>& values, size_t cols) {
    double power = 0, error = 0;
    for (size_t at = 0; at < values.size(); at += cols) {
        const std::vector<float> x(values.begin() + ptrdiff_t(at),
                                   values.begin() + ptrdiff_t(at + cols));
        error += weightedError(x, fitted(format, x, ones(cols)).decoded, ones(cols));
        for (const float value : x)
            power += double(value) * value;
    }
    return 10 * std::log10(power / error);
}

} // namespace

class TestRowFit : public QObject {
    Q_OBJECT
private slots:
    void groupsByHand_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<std::vector<float>>("x");
        QTest::addColumn<uint32_t>("scale");
        QTest::addColumn<uint16_t>("offset");
        QTest::addColumn<std::vector<uint8_t>>("codes");
        const auto row = [](const char* name, const char* format, std::vector<float> x,
                            uint32_t scale, uint16_t offset, std::vector<uint8_t> codes) {
            QTest::newRow(name) << format << x << scale << offset << codes;
        };
        // Values that lie on the format's grid are kept exactly.
        row("8 bits", "q8_0", {127, -64, 2, 0}, floatToHalf(1), 0, {127, 192, 2, 0});
        row("4 bits", "q4_0", {-4, 3.5f, 0.5f, -1}, floatToHalf(0.5f), 0, {0, 15, 9, 6});
        row("mirrored", "q4_0", {4, -3.5f, -0.5f, 1}, floatToHalf(-0.5f), 0, {0, 15, 9, 6});
        row("zero point", "int4_g32z", {-1.25f, 2.5f, 0, 1}, floatToHalf(0.25f), 5, {0, 15, 5, 9});
        row("offset", "q4_1", {10, 13.75f, 10.5f, 12}, floatToHalf(0.25f), floatToHalf(10),
            {0, 15, 2, 8});
        row("FP4", "mxfp4", {6, -3, 0.5f, 0}, 127, 0, {7, 13, 1, 0});
        row("FP4 by sixteens", "nvfp4", {12, -6, 1, -8}, 0x40, 0, {7, 13, 1, 14});
    }
    void groupsByHand() {
        QFETCH(QString, format);
        QFETCH(std::vector<float>, x);
        QFETCH(uint32_t, scale);
        QFETCH(uint16_t, offset);
        QFETCH(std::vector<uint8_t>, codes);
        const FittedRow row = fitted(getFormat(format.toStdString()), x, ones(x.size()));
        QCOMPARE(row.decoded, x);
        QCOMPARE(row.fit.scales, std::vector<uint32_t>{scale});
        QCOMPARE(row.codes, codes);
        if (!row.fit.offsets.empty())
            QCOMPARE(row.fit.offsets, std::vector<uint16_t>{offset});
    }

    /// The vector form of floatToHalf, which finds the scales.
    void halvesAreRoundedAlike() {
        Random random(11);
        for (int i = 0; i < 20000; ++i) {
            float values[kLanes], from[kLanes];
            uint32_t bits[kLanes];
            for (float& value : from) {
                value = static_cast<float>(std::ldexp(random.normal(), i % 44 - 30));
                value = i == 0 ? 0 : std::clamp(value, -65504.0f, 65504.0f);
            }
            if (i % 7 == 0) // halfway between two
                from[3] = halfToFloat(static_cast<uint16_t>(i)) +
                          std::ldexp(1.0f, std::max(i >> 10, 1) - 26);
            std::copy(from, from + kLanes, values);
            roundToHalves(values, bits);
            for (int lane = 0; lane < kLanes; ++lane) {
                QCOMPARE(bits[lane], uint32_t(floatToHalf(from[lane])));
                QCOMPARE(values[lane], halfToFloat(static_cast<uint16_t>(bits[lane])));
            }
        }
    }
    void codesAreTheNearest() {
        const size_t cols = 512;
        for (const Format* format : fittedFormats()) {
            std::vector<float> x = gaussian(cols, 11);
            x[100] *= 9;
            const FittedRow row = fitted(*format, x, ones(cols));
            const RowGrid grid(*format, int64_t(cols), row.fit);
            for (size_t i = 0; i < cols; ++i) {
                const auto group = int64_t(i) / format->groupLength(int64_t(cols));
                const std::vector<float> values =
                    representable(*format, groupValues(*format, int64_t(cols), row.fit, group));
                float nearest = values[0];
                for (const float value : values)
                    if (std::abs(x[i] - value) < std::abs(x[i] - nearest))
                        nearest = value;
                const RowGrid::Nearest found = grid.nearest(int64_t(i), x[i]);
                // Between two neighbours, rounding of x / scale decides: x · ε.
                const float bound = std::abs(x[i] - nearest) + std::abs(x[i]) * 0x1p-22f;
                QVERIFY2(std::abs(x[i] - row.decoded[i]) <= bound, format->name);
                QVERIFY2(std::abs(x[i] - found.value) <= bound, format->name);
            }
        }
    }

    void gridSaysWhatIsDecoded() {
        const size_t cols = 300; // groups and supers that end short
        for (const Format* format : fittedFormats()) {
            const RowFit fit = fitted(*format, gaussian(cols, 23), ones(cols)).fit;
            const RowGrid grid(*format, int64_t(cols), fit);
            std::vector<float> wanted = gaussian(cols, 29, 1.5), promised;
            wanted[0] = 0, wanted[1] = -0.0f, wanted[2] = 3e38f, wanted[3] = -3e38f;
            std::vector<uint8_t> codes;
            for (size_t i = 0; i < cols; ++i) {
                const RowGrid::Nearest nearest = grid.nearest(int64_t(i), wanted[i]);
                codes.push_back(nearest.code);
                promised.push_back(nearest.value);
            }
            const std::vector<float> decoded = decodedRow(*format, fit, codes);
            for (size_t i = 0; i < cols; ++i)
                QVERIFY2(decoded[i] == promised[i], format->name);
        }
    }

    void errorsAreBelowTheStep() {
        // A group that uses all its codes has steps of its range over their number, and an error of
        // step² / 12. The range of normal values is six sigma, with a third more for scales of few
        // bits; where values are dense, a table's gaps are at most twice the mean.
        const size_t cols = 1024;
        const std::vector<float> x = gaussian(cols, 31);
        for (const Format* format : fittedFormats()) {
            const std::vector<float> decoded = fitted(*format, x, ones(cols)).decoded;
            const double range = 6 * 4 / 3.0;
            const double step = range / ((1 << format->bits) - 1) * (format->table ? 2 : 1);
            QVERIFY2(weightedError(x, decoded, ones(cols)) <= double(cols) * step * step / 12,
                     format->name);
        }
    }

    void neverWorseThanPlain() {
        const size_t cols = 512;
        Random random(7);
        for (const Format* format : fittedFormats()) {
            double plainSum = 0, fittedSum = 0;
            for (int trial = 0; trial < 12; ++trial) {
                const double sigma = std::exp2(random.uniform() * 10 - 6);
                std::vector<float> x = gaussian(cols, random.next(), sigma);
                if (trial % 3 == 0)
                    x[random.next() % cols] *= 12;
                std::vector<float> weights = ones(cols);
                if (trial % 2 == 0)
                    for (float& weight : weights)
                        weight = static_cast<float>(random.uniform());
                const double a = weightedError(x, plain(*format, x).decoded, weights);
                const double b = weightedError(x, fitted(*format, x, weights).decoded, weights);
                // Errors are compared as float32 sums of a group's values.
                QVERIFY2(b <= a * (1 + double(cols) * 0x1p-24), format->name);
                plainSum += a;
                fittedSum += b;
            }
            QVERIFY2(fittedSum < plainSum, format->name);
        }
    }

    void weightsMoveTheErrorAway() {
        const size_t cols = 512;
        for (const Format* format : fittedFormats()) {
            std::vector<float> weights = ones(cols);
            for (size_t i = 0; i < cols; i += 16)
                weights[i] = 100;
            double withWeights = 0, without = 0, unweighted = 0, best = 0;
            for (uint64_t seed = 0; seed < 4; ++seed) {
                const std::vector<float> x = gaussian(cols, 13 + seed);
                const auto a = fitted(*format, x, weights).decoded;
                const auto b = fitted(*format, x, ones(cols)).decoded;
                withWeights += weightedError(x, a, weights);
                without += weightedError(x, b, weights);
                unweighted += weightedError(x, a, ones(cols));
                best += weightedError(x, b, ones(cols));
            }
            QVERIFY2(withWeights < without, format->name);
            QVERIFY2(best < unweighted, format->name);
        }
    }

    void zeroConstantTinyAndHugeRows() {
        const size_t cols = 256;
        for (const Format* format : fittedFormats()) {
            const auto decodedOf = [&](const std::vector<float>& x) {
                return fitted(*format, x, ones(x.size())).decoded;
            };
            for (const float zero : {0.0f, -0.0f})
                for (const float value : decodedOf(std::vector<float>(cols, zero)))
                    QVERIFY2(value == 0, format->name);
            std::vector<float> tiny(cols);
            for (size_t i = 0; i < cols; ++i)
                tiny[i] = static_cast<float>(i % 7) * std::numeric_limits<float>::denorm_min();
            for (const float value : decodedOf(tiny))
                QVERIFY2(std::abs(value) <= 0x1p-24f, format->name);
            std::vector<float> huge(cols);
            for (const float largest : {3e38f, std::numeric_limits<float>::max()}) {
                for (size_t i = 0; i < cols; ++i)
                    huge[i] = i % 2 ? largest : -largest;
                for (const float value : decodedOf(huge))
                    QVERIFY2(std::isfinite(value), format->name);
            }
            // Scales of 3 bits leave a constant to the next of sixteen steps an octave, powers of
            // two to the table's widest gap.
            const double exact = format->scale == ScaleKind::E8M0   ? 0.2
                                 : format->scale == ScaleKind::E4M3 ? 0x1p-4
                                                                    : 0x1p-10;
            for (const float constant : {2.5f, -2.5f})
                for (const float value : decodedOf(std::vector<float>(cols, constant)))
                    QVERIFY2(std::abs(value - constant) <= 2.5 * exact, format->name);
        }
    }

    void groupsWithoutWeightAreStillRounded() {
        const size_t cols = 512;
        for (const Format* format : fittedFormats()) {
            const std::vector<float> x = gaussian(cols, 41);
            std::vector<float> weights(cols, 0.0f);
            const double all = weightedError(x, fitted(*format, x, weights).decoded, ones(cols));
            const double best =
                weightedError(x, fitted(*format, x, ones(cols)).decoded, ones(cols));
            QVERIFY2(all <= best * 1.5, format->name);
        }
    }

    void shortRowsAndShortGroups() {
        for (const Format* format : fittedFormats())
            for (const size_t cols : {1, 3, 15, 17, 45, 257, 300}) {
                const std::vector<float> x = gaussian(cols, 17 + cols);
                const FittedRow row = fitted(*format, x, ones(cols));
                double power = 0;
                for (const float value : x)
                    power += double(value) * value;
                // A bit is worth some 5 dB; one scale for 300 normal values of 2 bits leaves 6.
                const double reached =
                    10 *
                    std::log10(power / (weightedError(x, row.decoded, ones(cols)) + power * 1e-9));
                QVERIFY2(reached > 5 * (format->bits - 1) - (cols < 16 ? 2 : 0), format->name);
            }
    }

    /// NF4 as it is published: the largest magnitude of each 64 is a scale, whatever else would
    /// lose less.
    void largestMagnitudesAreScales() {
        const std::vector<float> x = heavyTailed(512, 11);
        for (const char* name : {"nf4", "nf4_dq", "int4_g64", "q4_k", "mxfp4"}) {
            const Format& format = getFormat(name);
            std::vector<uint8_t> codes(x.size());
            const RowFit plain =
                fitRow(format, x, ones(x.size()), codes.data(), ScaleSearch::Largest);
            const double error = weightedError(x, decodedRow(format, plain, codes), ones(x.size()));
            const FittedRow searched = fitted(format, x, ones(x.size()));
            QVERIFY2(weightedError(x, searched.decoded, ones(x.size())) < error, name);
            if (std::string_view(name) != "nf4")
                continue;
            for (size_t group = 0; group < x.size() / 64; ++group) {
                float most = 0;
                for (size_t i = group * 64; i < (group + 1) * 64; ++i)
                    most = std::max(most, std::abs(x[i]));
                const double scale =
                    groupValues(format, 512, plain, static_cast<int64_t>(group)).scale;
                // Levels are whole multiples of 1/127, the outermost 127 of them.
                QVERIFY(std::abs(std::abs(scale) * 127 / double(most) - 1) < 1e-6 ||
                        std::abs(std::abs(scale) / double(most) - 1) < 1e-6);
            }
        }
    }

    void publishedSignalToNoise_data() {
        QTest::addColumn<double>("gauss");
        QTest::addColumn<double>("heavy");
        // research/quantization.md 1.1, 1.3 and 1.10: normal values, and Student's t of 6.
        QTest::newRow("iq4_xs") << 22.58 << 21.56;
        QTest::newRow("q4_k") << 22.94 << 21.92;
        QTest::newRow("q4_0") << 21.80 << 20.17;
        QTest::newRow("nvfp4") << 21.74 << 21.70;
        QTest::newRow("mxfp4") << 19.0 << 18.4;
        QTest::newRow("int4_g128") << 20.25 << 17.76;
        QTest::newRow("nf4") << 21.3 << 0.0;
        QTest::newRow("nf4_dq") << 21.3 << 0.0;
        QTest::newRow("q8_0") << 45.4 << 0.0;
        QTest::newRow("int8_g64_s8") << 44.4 << 0.0;
        QTest::newRow("int8_g128_s8") << 43.7 << 0.0;
        // What the k-quant searches of 1.9 reach with equal weights on these very values.
        QTest::newRow("q2_k") << 11.366 << 10.774;
        QTest::newRow("q3_k") << 16.836 << 15.760;
        QTest::newRow("q5_k") << 28.822 << 27.805;
        QTest::newRow("q6_k") << 35.221 << 33.919;
    }
    void publishedSignalToNoise() {
        QFETCH(double, gauss);
        QFETCH(double, heavy);
        const Format& format = getFormat(QTest::currentDataTag());
        constexpr size_t kCols = 4096, kRows = 64;
        const double a = sqnr(format, gaussian(kRows * kCols, 5), kCols);
        const double b = sqnr(format, heavyTailed(kRows * kCols, 5), kCols);
        QVERIFY2(a >= gauss && b >= heavy, qPrintable(QString("%1 %2 dB").arg(a).arg(b)));
    }
};

QTEST_GUILESS_MAIN(TestRowFit)
#include "test_row_fit.moc"
