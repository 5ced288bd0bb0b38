#include "core/base/random.h"
#include "core/quant/polish.h"
#include "core/quant/row_block.h"

#include <QTest>
#include <cmath>

using namespace nibble;

namespace {

constexpr int64_t kCols = 512;
constexpr double kDamping = 0.01;

/// Of inputs with a common part, as real ones have, and unequal channels. The last is dead.
Moments correlated() {
    Random random(5);
    MomentSum sum(kCols);
    std::vector<float> x(kCols);
    for (int token = 0; token < 2000; ++token) {
        const double common = random.normal();
        for (size_t c = 0; c < x.size(); ++c)
            x[c] = static_cast<float>((random.normal() + 0.7 * common) * (1 + double(c % 7)));
        x.back() = 0;
        sum.add(x.data(), 1);
    }
    return sum.finish();
}

Moments damped(Moments moments) {
    double mean = 0;
    for (int64_t i = 0; i < kCols; ++i)
        mean += double(moments.at(i, i)) / double(kCols);
    for (int64_t i = 0; i < kCols; ++i)
        moments.values[static_cast<size_t>(i * kCols + i)] += static_cast<float>(kDamping * mean);
    return moments;
}

struct Rounded {
    std::vector<float> values, decoded;
    std::vector<uint8_t> codes;
    std::vector<RowFit> fits;
    std::vector<RowGrid> grids;

    Rounded(const Format& format, size_t rows) {
        Random random(9);
        values.resize(rows * kCols);
        for (float& value : values)
            value = static_cast<float>(0.02 * random.normal());
        codes.resize(values.size());
        const std::vector<float> weights(kCols, 1.0f);
        for (size_t r = 0; r < rows; ++r) {
            fits.push_back(fitRow(format, row(r), weights, codes.data() + r * kCols));
            grids.emplace_back(format, kCols, fits.back());
        }
        decoded = stored(format);
    }
    std::span<const float> row(size_t r) const {
        return std::span(values).subspan(r * kCols, kCols);
    }
    std::vector<float> stored(const Format& format) const {
        TensorBuilder builder("rows", format, static_cast<int64_t>(fits.size()), kCols);
        for (size_t r = 0; r < fits.size(); ++r)
            storeRow(builder, static_cast<int64_t>(r), fits[r], codes.data() + r * kCols);
        return decode(builder.finish());
    }
    double error(const Moments& moments, size_t r) const {
        std::vector<float> difference(kCols);
        for (size_t c = 0; c < difference.size(); ++c)
            difference[c] = values[r * kCols + c] - decoded[r * kCols + c];
        return outputError(moments, difference);
    }
    void polish(const Format& format, const Moments& moments) {
        Polish(format, moments, kDamping).run({values, decoded, codes, fits, grids});
    }
};

} // namespace

class TestPolish : public QObject {
    Q_OBJECT
private slots:
    void theErrorFalls_data() {
        QTest::addColumn<bool>("any");
        for (const Format& format : formats())
            if (!cannotFit(format) && kCols % format.rowUnit() == 0)
                QTest::newRow(format.name) << true;
    }
    /// From plain rounding: never higher in a row, lower in all together; and what it says of the
    /// rows is what they decode to.
    void theErrorFalls() {
        static const Moments moments = correlated(), judged = damped(moments);
        const Format& format = getFormat(QTest::currentDataTag());
        Rounded rounded(format, 5);
        std::vector<double> before;
        for (size_t r = 0; r < rounded.fits.size(); ++r)
            before.push_back(rounded.error(judged, r));
        rounded.polish(format, moments);
        double all = 0, allBefore = 0;
        for (size_t r = 0; r < rounded.fits.size(); ++r) {
            const double error = rounded.error(judged, r);
            QVERIFY2(error <= before[r], qPrintable(QString::number(error / before[r])));
            all += error;
            allBefore += before[r];
        }
        QVERIFY(all < allBefore);
        QCOMPARE(rounded.stored(format), rounded.decoded);
    }
    void scalesAreRefitted() {
        // Codes are right, scales are 5 % too large: nothing but the scales needs to change.
        const Format& format = getFormat("int4_g128");
        Moments moments = correlated();
        for (int64_t i = 0; i < kCols * kCols; ++i)
            if (i / kCols != i % kCols)
                moments.values[static_cast<size_t>(i)] = 0;
        Rounded rounded(format, kBlockRows);
        rounded.values = rounded.decoded;
        for (float& value : rounded.values)
            value *= 0.95f;
        const auto codes = rounded.codes;
        const double before = rounded.error(moments, 3);
        rounded.polish(format, moments);
        QVERIFY(rounded.error(moments, 3) < 1e-3 * before);
        QCOMPARE(rounded.codes, codes);
    }
    void nothingIsDoneWithoutInputsOrBeyondFloats() {
        const Format& format = getFormat("nibble4");
        Moments none;
        none.size = kCols;
        none.values.resize(kCols * kCols);
        Rounded rounded(format, 2);
        const auto codes = rounded.codes;
        rounded.polish(format, none);
        QCOMPARE(rounded.codes, codes);
        for (float& value : none.values)
            value = 1e36f;
        rounded.polish(format, none);
        QCOMPARE(rounded.codes, codes);
    }
};

QTEST_APPLESS_MAIN(TestPolish)
#include "test_polish.moc"
