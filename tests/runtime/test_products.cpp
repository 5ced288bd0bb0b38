#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/random.h"
#include "core/runtime/cpu/cpu_matrix.h"
#include "core/tensor/planes.h"

#include <QTest>

#include <bit>
#include <cmath>
#include <cstring>
#include <set>

using namespace nibble;

namespace {

/// Random raw bits with scales of ordinary size: any codes are valid, scales must stay finite.
Tensor randomTensor(const Format& format, int64_t rows, int64_t cols, Random& random) {
    if (format.isFloat()) {
        std::vector<float> values(static_cast<size_t>(rows * cols));
        for (float& value : values)
            value = static_cast<float>(random.normal());
        return makeFloatTensor("w", format, rows, cols, values);
    }
    TensorBuilder builder("w", format, rows, cols);
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    const auto half = [&] { return floatToHalf(static_cast<float>(random.normal() * 0.01)); };
    for (int64_t row = 0; row < rows; ++row) {
        for (uint8_t& code : codes)
            code = static_cast<uint8_t>(random.next() & ((1u << format.bits) - 1));
        builder.setCodes(row, codes.data());
        for (int64_t g = 0; g < format.groupCount(cols); ++g) {
            const auto f32 = static_cast<float>(random.normal() * 0.01);
            uint32_t raw = half();
            if (format.scale == ScaleKind::F32)
                std::memcpy(&raw, &f32, 4);
            else if (format.scale == ScaleKind::E8M0)
                raw = 118 + static_cast<uint32_t>(random.next() % 8);
            else if (format.scale == ScaleKind::E4M3)
                raw = static_cast<uint32_t>(random.next() % 64);
            else if (format.scale == ScaleKind::Code)
                raw = static_cast<uint32_t>(random.next() & ((1u << format.scaleBits) - 1));
            builder.setScale(row, g, raw);
            if (format.offset == OffsetKind::Value)
                builder.setOffset(row, g, half());
            else if (format.offset != OffsetKind::None)
                builder.setOffset(
                    row, g, static_cast<uint16_t>(random.next() & ((1u << format.offsetBits) - 1)));
        }
        for (int64_t s = 0; s < format.superCount(cols); ++s) {
            if (format.scale == ScaleKind::Code)
                builder.setSuperScale(row, s, half());
            if (format.offset == OffsetKind::Code)
                builder.setSuperOffset(row, s, half());
        }
    }
    return builder.finish();
}

/// Input rows with one outlier each.
ActivationRows randomRows(int32_t rows, int64_t cols, Random& random) {
    ActivationRows input(rows, cols);
    input.begin(rows, cols);
    for (int32_t m = 0; m < rows; ++m) {
        for (int64_t i = 0; i < cols; ++i)
            input.row(m)[i] = static_cast<float>(random.normal());
        input.row(m)[static_cast<int64_t>(random.next() % static_cast<uint64_t>(cols))] *= 20;
    }
    return input;
}

bool inColumn(const InputForm& form, int64_t i) {
    return form.columns &&
           std::find(form.columns->begin(), form.columns->end(), i) != form.columns->end();
}

bool isOutlier(const ActivationRows& input, const InputForm& form, int64_t m, int64_t i) {
    if (inColumn(form, i))
        return true;
    if (form.threshold == 0)
        return false;
    const auto& outliers = input.outliers(form, m);
    return std::any_of(outliers.begin(), outliers.end(),
                       [i](const OutlierValue& outlier) { return outlier.col == i; });
}

/// What the product sees: the floats, or code × scale.
double seen(const ActivationRows& input, const InputForm& form, int64_t m, int64_t i) {
    if (form.isFloat() || isOutlier(input, form, m, i))
        return double(input.row(m)[i]);
    const Int8Rows x = input.int8(form);
    return double(x.codes[m * input.stride() + i]) *
           double(x.scales[m * (input.stride() / 32) + i / 32]);
}

struct Result {
    std::vector<float> values;
    InputForm form;
};

Result product(const Tensor& tensor, ActivationRows& input, ActivationFormat format,
               const CpuKernels& kernels) {
    const CpuMatrix matrix(tensor, format, kernels);
    Result result{std::vector<float>(static_cast<size_t>(input.rows() * tensor.rows)),
                  matrix.form()};
    ActivationRows gathered;
    if (matrix.needsGather()) {
        gathered = ActivationRows(input.rows(), input.cols());
        matrix.gather(input, gathered);
    }
    ActivationRows& read = matrix.needsGather() ? gathered : input;
    read.quantize(matrix.form(), kernels);
    matrix.multiply(read, 0, matrix.units(), result.values.data(), tensor.rows);
    return result;
}

/// The values that integer kernels multiply with: entries of a table as its integers × unit.
std::vector<float> decodeIntegers(const Tensor& tensor) {
    if (!tensor.format->table)
        return decode(tensor);
    CodeTable table = *tensor.format->table;
    for (size_t c = 0; c < 16; ++c)
        table.exact[c] = tensor.format->unit * table.integer[c];
    Format format = *tensor.format;
    format.table = &table;
    Tensor copy = tensor;
    copy.format = &format;
    return decode(copy);
}

/// Largest |y − ŷ| relative to its bound, against float64 of what the product saw. Each value is
/// rounded in its block (products with scale and offset, 4 operations) and in the sum over blocks;
/// kernels that multiply floats keep at least 8 partial sums over cols / 8 terms, or add at most 10
/// terms in a block of sums of its own.
double worstRatio(const Tensor& tensor, const ActivationRows& input, const Result& result) {
    const std::vector<float> exact = decode(tensor); // what floats are multiplied with
    const std::vector<float> weights = result.form.isFloat() ? exact : decodeIntegers(tensor);
    const auto cols = static_cast<size_t>(tensor.cols);
    std::vector<double> inputsSeen;
    std::vector<uint8_t> isWhole;
    for (int64_t m = 0; m < input.rows(); ++m)
        for (int64_t i = 0; i < tensor.cols; ++i) {
            inputsSeen.push_back(seen(input, result.form, m, i));
            isWhole.push_back(isOutlier(input, result.form, m, i));
        }
    double worst = 0;
    for (int64_t row = 0; row < tensor.rows; ++row) {
        std::vector<double> spread(static_cast<size_t>(tensor.cols));
        for (int64_t i = 0; i < tensor.cols; ++i) {
            double magnitude = std::fabs(double(weights[size_t(row * tensor.cols + i)]));
            if (!tensor.format->isFloat()) {
                // Σ(c·x) − z·Σx cancels: what is rounded is as large as |w − o| + |o|.
                const GroupValues g =
                    groupValues(tensor, row, i / tensor.format->groupLength(tensor.cols));
                magnitude += 2 * std::fabs(double(g.offset));
            }
            spread[size_t(i)] = magnitude;
        }
        for (int64_t m = 0; m < input.rows(); ++m) {
            double sum = 0, scale = 0;
            for (int64_t i = 0; i < tensor.cols; ++i) {
                const double x = inputsSeen[size_t(m) * cols + size_t(i)];
                const bool whole = isWhole[size_t(m) * cols + size_t(i)] != 0;
                sum += x * double((whole ? exact : weights)[size_t(row * tensor.cols + i)]);
                scale += std::fabs(x) * spread[size_t(i)];
            }
            const double blocks = static_cast<double>(tensor.blocks());
            const double bound = (4 * blocks + 12) * 0x1p-24 * scale;
            const double error =
                std::fabs(double(result.values[size_t(m * tensor.rows + row)]) - sum);
            worst = std::max(worst, error / (bound + 1e-300));
        }
    }
    return worst;
}

std::vector<const CpuKernels*> supportedSets() {
    std::vector<const CpuKernels*> sets;
    for (const CpuKernels* set : kernelSets())
        if (set->supported())
            sets.push_back(set);
    return sets;
}

constexpr ActivationFormat kTriedActivations[] = {
    ActivationFormat::Float,        ActivationFormat::Int8Block32, ActivationFormat::Int8Block64,
    ActivationFormat::Int8Block128, ActivationFormat::Int8Token,   ActivationFormat::Int8Outliers,
    ActivationFormat::Int8Static};

/// Every 50th column from the third on, and the last, beside the codes, which are cleared there.
Tensor withOutliers(Tensor tensor, Random& random) {
    std::vector<int32_t> columns;
    for (int64_t i = 2; i < tensor.cols - 1; i += 50)
        columns.push_back(static_cast<int32_t>(i));
    columns.push_back(static_cast<int32_t>(tensor.cols - 1));
    std::vector<uint32_t> codes(tensor.codes.as<uint32_t>().begin(),
                                tensor.codes.as<uint32_t>().end());
    std::vector<uint16_t> halves;
    for (int64_t row = 0; row < tensor.rows; ++row)
        for (const int32_t column : columns) {
            reinterpret_cast<uint8_t*>(codes.data())[row * tensor.blocks() * 32 + column] = 0;
            halves.push_back(floatToHalf(static_cast<float>(random.normal())));
        }
    tensor.codes = Bytes::of(std::move(codes));
    tensor.outliers = Bytes::of(std::move(halves));
    tensor.outlierColumns = std::make_shared<const std::vector<int32_t>>(columns);
    return tensor;
}

} // namespace

class TestProducts : public QObject {
    Q_OBJECT
private slots:
    void outliersStayFloats() {
        ActivationRows input(2, 64);
        const InputForm form{.format = ActivationFormat::Int8Outliers, .threshold = 6};
        input.begin(2, 64);
        for (int64_t i = 0; i < 64; ++i) {
            input.row(0)[i] = static_cast<float>(i) / 64;
            input.row(1)[i] = 0.5f;
        }
        input.row(0)[7] = -100;
        input.row(0)[40] = 6;
        input.quantize(form, bestKernels());
        QCOMPARE(input.outliers(form, 0).size(), size_t(2));
        QCOMPARE(input.outliers(form, 0)[0].col, 7);
        QCOMPARE(input.outliers(form, 0)[0].value, -100.0f);
        QCOMPARE(input.outliers(form, 0)[1].col, 40);
        // Another token's outliers are no business of this one.
        QVERIFY(input.outliers(form, 1).empty());
        const Int8Rows x = input.int8(form);
        QCOMPARE(int(x.codes[7]), 0);
        QCOMPARE(int(x.codes[63]), 127); // the scale is of what is left
        QCOMPARE(input.row(0)[7], -100.0f);

        // With a higher threshold one of them is rounded, and with a column none is looked for.
        InputForm other = form;
        other.threshold = 6.5;
        input.quantize(other, bestKernels());
        QCOMPARE(input.outliers(other, 0).size(), size_t(1));
        QCOMPARE(int(input.int8(other).codes[40]), 127);
        other.columns = std::make_shared<const std::vector<int32_t>>(std::vector{7, 40});
        input.quantize(other, bestKernels());
        QVERIFY(input.outliers(other, 0).empty());
        QCOMPARE(int(input.int8(other).codes[40]), 0);
        QCOMPARE(int(input.int8(other).codes[63]), 127);
        // Three forms of the same rows, each its own.
        QCOMPARE(input.outliers(form, 0).size(), size_t(2));
        input.begin(1, 64);
        QVERIFY_EXCEPTION_THROWN(input.int8(form), Error);
    }

    void staticScalesClamp() {
        ActivationRows input(1, 64);
        input.begin(1, 64);
        const float values[] = {0.5f, -0.5f, 0.49999997f, -1.5f, 2.4f, 200, -200, 127};
        std::fill_n(input.row(0), 64, 0.0f);
        std::copy(std::begin(values), std::end(values), input.row(0));
        const InputForm form{.format = ActivationFormat::Int8Static, .scale = 1};
        input.quantize(form, bestKernels());
        const Int8Rows x = input.int8(form);
        const std::vector<int> expected{1, -1, 0, -2, 2, 127, -127, 127};
        QCOMPARE(std::vector<int>(x.codes, x.codes + 8), expected);
        QCOMPARE(x.sums[0], 127);
        QCOMPARE(x.scales[1], 1.0f);
        input.row(0)[40] = HUGE_VALF;
        input.quantize(form, bestKernels());
        QVERIFY(std::isnan(input.int8(form).scales[0]));
    }

    /// The integer part is exact, and what is beside it is within its bound, in every format that
    /// can have outlier columns.
    void outlierColumns() {
        Random random(23);
        for (const char* name : {"int8", "int8_g32", "q8_0", "int8_g128_s8", "int8_g32_f32"}) {
            Tensor tensor = withOutliers(randomTensor(getFormat(name), 35, 256, random), random);
            tensor.inputScale = 0.02f;
            const std::vector<float> values = decode(tensor);
            for (const int32_t m : {1, 3, 17}) {
                ActivationRows input = randomRows(m, 256, random);
                for (const ActivationFormat activations : kTriedActivations) {
                    const Result reference = product(tensor, input, activations, kScalarKernels);
                    for (const CpuKernels* set : supportedSets()) {
                        const Result result = product(tensor, input, activations, *set);
                        const QString where = QString("%1 %2").arg(name).arg(set->name);
                        QVERIFY2(worstRatio(tensor, input, result) <= 1, qPrintable(where));
                        if (activations != ActivationFormat::Float)
                            QVERIFY2(result.values == reference.values, qPrintable(where));
                    }
                }
            }
            for (const CpuKernels* set : supportedSets()) {
                const CpuMatrix matrix(tensor, ActivationFormat::Int8Outliers, *set);
                std::vector<float> row(256);
                for (int64_t i = 0; i < 35; ++i) {
                    matrix.decodeRow(i, row.data());
                    QVERIFY(std::equal(row.begin(), row.end(), values.begin() + i * 256));
                }
            }
        }
    }
    /// A matrix in column order is the matrix with its columns put back.
    void columnOrders() {
        Random random(21);
        for (const char* name : {"int4_g32", "q2_k", "int8"})
            for (const CpuKernels* set : supportedSets())
                for (const ActivationFormat format : kTriedActivations) {
                    Tensor tensor = randomTensor(getFormat(name), 21, 256, random);
                    tensor.inputScale = 0.02f;
                    ActivationRows gathered = randomRows(3, 256, random), input(3, 256);
                    const auto plain = product(tensor, gathered, format, *set);
                    std::vector<int32_t> order(256);
                    for (int i = 0; i < 256; ++i)
                        order[size_t(i)] = (i * 5 + 7) % 256;
                    input.begin(3, 256);
                    for (int64_t m = 0; m < 3; ++m)
                        for (size_t i = 0; i < 256; ++i)
                            input.row(m)[order[i]] = gathered.row(m)[i];
                    tensor.columnOrder = std::make_shared<const std::vector<int32_t>>(order);
                    const auto ordered = product(tensor, input, format, *set);
                    QVERIFY2(ordered.values == plain.values, name);
                    QVERIFY(ordered.form == plain.form);
                    std::vector<float> values = decode(tensor), row(256);
                    const CpuMatrix matrix(tensor, format, *set);
                    QVERIFY(matrix.path().find("in column order") != std::string::npos);
                    for (int64_t i = 0; i < 21; ++i) {
                        matrix.decodeRow(i, row.data());
                        QVERIFY(std::equal(row.begin(), row.end(), values.begin() + i * 256));
                    }
                }
    }
    /// Nothing is multiplied in another format than its own, nor takes much more memory than it.
    void everyFormatRunsAsItself() {
        Random random(5);
        int integers = 0;
        for (const Format& format : formats()) {
            // What tiles rely on: whole groups in a block, or whole blocks in a group.
            QVERIFY(format.group == 0 || (format.group >= 16 && std::has_single_bit(format.group)));
            Tensor tensor = randomTensor(format, 32, 512, random);
            tensor.inputScale = 0.02f;
            for (const CpuKernels* set : supportedSets())
                for (const ActivationFormat activations : kTriedActivations) {
                    const CpuMatrix matrix(tensor, activations, *set);
                    const ActivationFormat kept =
                        format.isFloat() ? ActivationFormat::Float : activations;
                    QCOMPARE(matrix.form().format, kept);
                    const std::string expected =
                        std::string(format.name) + " × " + matrix.form().text() + ", " + set->name;
                    QVERIFY2(matrix.path().starts_with(expected), matrix.path().c_str());
                    // Scale codes of fewer than eight bits take a byte.
                    const double bits = double(matrix.bytes()) * 8 / double(tensor.values());
                    QVERIFY2(bits <= format.bitsPerWeight(512) + 8.0 / 16, format.name);
                    integers += kept != ActivationFormat::Float;
                }
        }
        QCOMPARE(integers, int(supportedSets().size() * (std::size(kTriedActivations) - 1) *
                               (formats().size() - 3)));
    }
    void everyFormat_data() {
        QTest::addColumn<QString>("format");
        for (const Format* format : coveringFormats())
            QTest::newRow(format->name) << QString(format->name);
    }
    void everyFormat() {
        QFETCH(QString, format);
        const Format& f = getFormat(format.toStdString());
        Random random(7);
        const bool free = f.group == 0; // any number of columns
        std::vector<std::pair<int64_t, int64_t>> shapes =
            free ? std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {17, 40}, {33, 257}, {48, 512}}
                 : std::vector<std::pair<int64_t, int64_t>>{{3, 256}, {17, 512}, {48, 768}};
        if (!free && f.rowUnit() < 256) // rows that end within a chunk of 256, or even a block
            shapes.emplace_back(19, 512 + f.rowUnit());
        for (const auto& [rows, cols] : shapes) {
            Tensor tensor = randomTensor(f, rows, cols, random);
            tensor.inputScale = 0.02f;
            for (const int32_t m : {1, 2, 3, 5, 8, 17}) {
                ActivationRows input = randomRows(m, cols, random);
                for (const ActivationFormat activations : kTriedActivations) {
                    const Result reference = product(tensor, input, activations, kScalarKernels);
                    for (const CpuKernels* set : supportedSets()) {
                        const Result result = product(tensor, input, activations, *set);
                        const double ratio = worstRatio(tensor, input, result);
                        const QString where = QStringLiteral("%1 %2x%3 M %4 %5: %6")
                                                  .arg(set->name)
                                                  .arg(rows)
                                                  .arg(cols)
                                                  .arg(m)
                                                  .arg(QString::fromUtf8(name(activations).data()))
                                                  .arg(ratio);
                        QVERIFY2(ratio <= 1, qPrintable(where));
                        // Integer kernels round in the same places: equal bit for bit.
                        if (!result.form.isFloat())
                            QVERIFY2(result.values == reference.values, qPrintable(where));
                    }
                }
            }
        }
    }

    /// A row of a batch is the row alone, whatever its neighbours.
    void rowsDoNotDependOnTheBatch() {
        Random random(11);
        for (const char* name : {"f32", "f16", "int8", "int4_g32", "int4_g128z", "q4_1", "q2_k",
                                 "q3_k", "q6_k", "nf4", "q5_k"})
            for (const CpuKernels* set : supportedSets())
                for (const ActivationFormat format :
                     {ActivationFormat::Float, ActivationFormat::Int8Block32}) {
                    const Tensor tensor = randomTensor(getFormat(name), 35, 256, random);
                    ActivationRows all = randomRows(17, 256, random);
                    const auto together = product(tensor, all, format, *set).values;
                    for (int32_t m = 0; m < 17; ++m) {
                        ActivationRows one(1, 256);
                        one.begin(1, 256);
                        std::copy_n(all.row(m), 256, one.row(0));
                        const auto alone = product(tensor, one, format, *set).values;
                        QVERIFY2(std::equal(alone.begin(), alone.end(),
                                            together.begin() + m * tensor.rows),
                                 name);
                    }
                }
    }

    /// The bound must see a kernel that is wrong in one bit of one weight, scale or offset.
    void plantedErrorIsCaught() {
        Random random(13);
        for (const Format* format : coveringFormats()) {
            if (format->isFloat())
                continue;
            const Tensor tensor = randomTensor(*format, 16, 256, random);
            ActivationRows input = randomRows(2, 256, random);
            for (Bytes Tensor::*plane :
                 {&Tensor::codes, &Tensor::scales, &Tensor::superScales, &Tensor::offsets})
                for (const CpuKernels* set : supportedSets())
                    for (const auto activations :
                         {ActivationFormat::Float, ActivationFormat::Int8Block32}) {
                        const auto from = (tensor.*plane).as<uint8_t>();
                        if (from.empty())
                            continue;
                        std::vector<uint8_t> bytes(from.begin(), from.end());
                        // The first element's last byte: what is significant in floats.
                        const int width = plane == &Tensor::codes     ? 1
                                          : plane == &Tensor::scales  ? scaleBytes(*format)
                                          : plane == &Tensor::offsets ? offsetBytes(*format)
                                                                      : 2;
                        bytes[size_t(width - 1)] ^= 1u << 1;
                        Tensor wrong = tensor;
                        wrong.*plane = Bytes::of(std::move(bytes));
                        const Result result = product(wrong, input, activations, *set);
                        QVERIFY2(worstRatio(tensor, input, result) > 1, format->name);
                    }
        }
    }

    void quantizedActivationsAgree() {
        Random random(17);
        const CpuKernels& scalar = kScalarKernels;
        for (const int block : {32, 64, 128, 0}) {
            std::vector<float> x(256);
            for (float& value : x)
                value = static_cast<float>(random.normal());
            // Halves of a step, where rounding has to choose: multiples of 1/2 at scale 1.
            for (size_t i = 0; i < 128; ++i)
                x[i] = static_cast<float>(int(i) - 64) * 0.5f;
            x[3] = x[40] = x[70] = x[100] = 127;
            std::vector<int8_t> expected(256), codes(256);
            std::vector<float> expectedScales(8), scales(8);
            std::vector<int32_t> expectedSums(16), sums(16);
            scalar.quantize(x.data(), 256, block, expected.data(), expectedScales.data(),
                            expectedSums.data());
            for (const CpuKernels* set : supportedSets()) {
                set->quantize(x.data(), 256, block, codes.data(), scales.data(), sums.data());
                QVERIFY(codes == expected);
                QVERIFY(scales == expectedScales);
                QVERIFY(sums == expectedSums);
            }
            QCOMPARE(int(expected[0]), -32);
            QCOMPARE(int(expected[1]), -32); // −31.5 goes away from zero
            x[9] = std::nanf("");
            for (const CpuKernels* set : supportedSets()) {
                set->quantize(x.data(), 256, block, codes.data(), scales.data(), sums.data());
                QVERIFY(std::isnan(scales[0]));
            }
        }
    }
};

QTEST_GUILESS_MAIN(TestProducts)
#include "test_products.moc"
