#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/random.h"
#include "core/tensor/layout.h"
#include "core/tensor/planes.h"
#include "core/tensor/tensor.h"

#include <QTest>
#include <bit>
#include <cmath>
#include <cstring>

using namespace nibble;

namespace {

/// What a tensor was filled with, one entry a value, so that the expected values need no planes.
struct Filled {
    Tensor tensor;
    std::vector<uint8_t> codes;
    std::vector<float> expected;
};

float scaleOf(ScaleKind kind, uint32_t bits) {
    switch (kind) {
    case ScaleKind::F32:
        return std::bit_cast<float>(bits);
    case ScaleKind::F16:
        return halfToFloat(static_cast<uint16_t>(bits));
    case ScaleKind::BF16:
        return bfloatToFloat(static_cast<uint16_t>(bits));
    case ScaleKind::E8M0:
        return std::pow(2.0f, static_cast<float>(bits) - 127);
    case ScaleKind::E4M3:
        return (bits >> 3) == 0 ? static_cast<float>(bits & 7) / 512
                                : (1 + static_cast<float>(bits & 7) / 8) *
                                      std::pow(2.0f, static_cast<float>(bits >> 3) - 7);
    default:
        return 1;
    }
}

/// Random codes and finite scales, and w = unit · s · (c − z) + o computed value by value.
Filled fill(const Format& f, int64_t rows, int64_t cols) {
    Random random(static_cast<uint64_t>(rows * 1000 + cols));
    const auto half = [&] { return floatToHalf(static_cast<float>(random.normal())); };
    Filled out;
    TensorBuilder builder("t", f, rows, cols, 1);
    for (int64_t row = 0; row < rows; ++row) {
        std::vector<float> superScales, superOffsets;
        for (int64_t s = 0; s < f.superCount(cols); ++s) {
            const uint16_t scale = half(), offset = half();
            builder.setSuperScale(row, s, scale);
            if (f.offset == OffsetKind::Code)
                builder.setSuperOffset(row, s, offset);
            superScales.push_back(halfToFloat(scale));
            superOffsets.push_back(halfToFloat(offset));
        }
        std::vector<float> scales, offsets, zeros;
        for (int64_t g = 0; g < f.groupCount(cols); ++g) {
            const auto super =
                static_cast<size_t>(f.super == 0 ? 0 : g * f.groupLength(cols) / f.super);
            uint32_t bits = half();
            if (f.scale == ScaleKind::F32)
                bits = std::bit_cast<uint32_t>(static_cast<float>(random.normal()));
            if (f.scale == ScaleKind::E8M0)
                bits = static_cast<uint32_t>(1 + random.next() % 200);
            if (f.scale == ScaleKind::E4M3)
                bits = static_cast<uint32_t>(random.next() % 0x7f);
            if (f.scale == ScaleKind::Code)
                bits = static_cast<uint32_t>(random.next()) & ((1u << f.scaleBits) - 1);
            builder.setScale(row, g, bits);
            if (f.scale == ScaleKind::Code) {
                const int code = f.scaleBits == 8 && bits > 127 ? int(bits) - 256 : int(bits);
                scales.push_back(static_cast<float>(code - f.scaleZero) * superScales[super]);
            } else {
                scales.push_back(scaleOf(f.scale, bits));
            }
            uint16_t offset = half();
            if (f.offset == OffsetKind::Code || f.offset == OffsetKind::Zero)
                offset = static_cast<uint16_t>(random.next() & ((1u << f.offsetBits) - 1));
            if (f.offset != OffsetKind::None)
                builder.setOffset(row, g, offset);
            offsets.push_back(f.offset == OffsetKind::Value  ? halfToFloat(offset)
                              : f.offset == OffsetKind::Code ? offset * superOffsets[super]
                                                             : 0);
            zeros.push_back(f.offset == OffsetKind::Zero ? offset : 0);
        }
        std::vector<uint8_t> codes(static_cast<size_t>(cols));
        for (size_t c = 0; c < codes.size(); ++c) {
            codes[c] = static_cast<uint8_t>(random.next() & ((1u << f.bits) - 1));
            const size_t g = c / static_cast<size_t>(f.groupLength(cols));
            const int number = f.bits == 8 && codes[c] > 127 ? codes[c] - 256 : codes[c];
            const float unit = f.table ? 1 : f.unit;
            const float symbol =
                f.table ? f.table->exact[codes[c]] : static_cast<float>(number - f.zero) - zeros[g];
            const float product = unit * scales[g] * symbol;
            const bool adds = f.offset == OffsetKind::Value || f.offset == OffsetKind::Code;
            out.expected.push_back(adds ? product + offsets[g] : product);
        }
        builder.setCodes(row, codes.data());
        out.codes.insert(out.codes.end(), codes.begin(), codes.end());
    }
    out.tensor = builder.finish();
    return out;
}

} // namespace

class TestFormats : public QObject {
    Q_OBJECT
private slots:
    void aColumnOrderIsUndoneByDecoding() {
        const Filled filled = fill(getFormat("int4_g32z"), 3, 96);
        std::vector<int32_t> order(96);
        for (int i = 0; i < 96; ++i)
            order[size_t(i)] = (i * 5 + 7) % 96;
        Tensor tensor = filled.tensor;
        tensor.columnOrder = std::make_shared<const std::vector<int32_t>>(order);
        const std::vector<float> values = decode(tensor);
        for (size_t row = 0; row < 3; ++row)
            for (size_t j = 0; j < 96; ++j)
                QCOMPARE(values[row * 96 + size_t(order[j])], filled.expected[row * 96 + j]);
        for (const char* format : {"f32", "bf16"}) { // the same of floats
            Tensor floats = makeFloatTensor("t", getFormat(format), 3, 96, filled.expected);
            const std::vector<float> plain = decode(floats);
            floats.columnOrder = tensor.columnOrder;
            const std::vector<float> ordered = decode(floats);
            for (size_t row = 0; row < 3; ++row)
                for (size_t j = 0; j < 96; ++j)
                    QCOMPARE(ordered[row * 96 + size_t(order[j])], plain[row * 96 + j]);
        }
    }
    void rowsAreGatheredExactly() {
        for (const char* name : {"int3_g32z", "q4_k", "nf4", "f16"}) {
            const Format& format = getFormat(name);
            const Tensor tensor =
                format.isFloat()
                    ? makeFloatTensor("t", format, 5, 256, std::vector<float>(5 * 256, 0.5f))
                    : fill(format, 5, 256).tensor;
            const std::vector<int64_t> order{4, 0, 0, 3};
            const Tensor gathered = gatherRows(tensor, order);
            QCOMPARE(gathered.rows, int64_t(4));
            const std::vector<float> values = decode(tensor), out = decode(gathered);
            for (size_t i = 0; i < order.size(); ++i)
                QVERIFY(std::equal(out.begin() + int64_t(i) * 256,
                                   out.begin() + int64_t(i + 1) * 256,
                                   values.begin() + order[i] * 256));
        }
    }
    void outlierColumnsTravelWithTheirRows() {
        const Format& int8 = getFormat("int8");
        TensorBuilder builder("w", int8, 20, 40);
        std::vector<uint8_t> codes(40);
        std::vector<uint16_t> halves;
        for (int64_t row = 0; row < 20; ++row) {
            for (size_t i = 0; i < 40; ++i)
                codes[i] = i == 3 || i == 39 ? 0 : static_cast<uint8_t>(row * 7 + int64_t(i));
            builder.setCodes(row, codes.data());
            builder.setScale(row, 0, std::bit_cast<uint32_t>(0.5f));
            halves.push_back(floatToHalf(static_cast<float>(100 + row)));
            halves.push_back(floatToHalf(static_cast<float>(-row)));
        }
        Tensor tensor = builder.finish();
        const uint64_t bytes = tensor.planeBytes(), stored = tensor.storedBytes();
        tensor.outliers = Bytes::of(halves);
        tensor.outlierColumns =
            std::make_shared<const std::vector<int32_t>>(std::vector<int32_t>{3, 39});
        QCOMPARE(tensor.planeBytes(), bytes + 20 * 2 * 2 + 2 * 4);
        QCOMPARE(tensor.storedBytes(), stored + 20 * 2 * 2 + 2 * 4);
        const std::vector<float> values = decode(tensor);
        for (int64_t row = 0; row < 20; ++row) {
            QCOMPARE(values[size_t(row * 40 + 3)], static_cast<float>(100 + row));
            QCOMPARE(values[size_t(row * 40 + 39)], static_cast<float>(-row));
            QCOMPARE(values[size_t(row * 40 + 4)],
                     0.5f * static_cast<float>(static_cast<int8_t>(row * 7 + 4)));
            for (int64_t i = 0; i < 40; ++i)
                QCOMPARE(decodeValue(tensor, row, i), values[size_t(row * 40 + i)]);
        }
        const std::vector<int64_t> order{19, 0, 19, 7};
        const std::vector<float> gathered = decode(gatherRows(tensor, order));
        for (size_t i = 0; i < order.size(); ++i)
            QVERIFY(std::equal(gathered.begin() + int64_t(i) * 40,
                               gathered.begin() + int64_t(i + 1) * 40,
                               values.begin() + order[i] * 40));
        for (const TileOrder tileOrder : {TileOrder::Rows, TileOrder::Words}) {
            const TiledPlanes tiles = toTiles(tensor, tileOrder);
            QVERIFY(decode(fromTiles(tiles, "w")) == values);
            std::vector<float> row(40);
            decodeTiledRow(tiles, 17, row.data());
            QVERIFY(std::equal(row.begin(), row.end(), values.begin() + 17 * 40));
            QCOMPARE(decodeTiledCode(tiles, 17, 4), values[17 * 40 + 4]);
        }
    }
    void everyHalfIsDecoded() {
        // With a remainder behind the last whole block.
        std::vector<uint16_t> halves;
        for (uint32_t h = 0; h < 0x10000; ++h)
            halves.push_back(static_cast<uint16_t>(h));
        for (uint16_t h = 0x7bf9; h < 0x7c06; ++h)
            halves.push_back(h);
        Tensor tensor;
        tensor.format = &getFormat("f16");
        tensor.rows = 1;
        tensor.cols = static_cast<int64_t>(halves.size());
        tensor.codes = Bytes::of(std::vector(halves));
        const std::vector<float> decoded = decode(tensor);
        for (size_t i = 0; i < halves.size(); ++i)
            QCOMPARE(std::bit_cast<uint32_t>(decoded[i]),
                     std::bit_cast<uint32_t>(halfToFloat(halves[i])));
    }
    void everyFormatDecodesByItsFormula_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<int>("cols");
        for (const Format& f : formats())
            if (!f.isFloat())
                for (const int cols : {1, 31, 32, 33, 96, 256, 300, 768})
                    QTest::addRow("%s %d", f.name, cols) << QString(f.name) << cols;
    }
    void everyFormatDecodesByItsFormula() {
        QFETCH(QString, name);
        QFETCH(int, cols);
        const Format& f = getFormat(name.toStdString());
        const Filled filled = fill(f, 5, cols);
        const auto values = decode(filled.tensor);
        QCOMPARE(values.size(), filled.expected.size());
        for (size_t i = 0; i < values.size(); ++i)
            QCOMPARE(std::bit_cast<uint32_t>(values[i]),
                     std::bit_cast<uint32_t>(filled.expected[i]));
        std::vector<float> middle(static_cast<size_t>(2 * cols));
        decodeRows(filled.tensor, 2, 4, middle.data());
        QVERIFY(std::memcmp(middle.data(), values.data() + 2 * cols, middle.size() * 4) == 0);
        std::vector<uint8_t> codes(static_cast<size_t>(cols));
        for (int64_t row = 0; row < 5; ++row) {
            unpackCodes(filled.tensor, row, codes.data());
            QVERIFY(std::memcmp(codes.data(), filled.codes.data() + row * cols, codes.size()) == 0);
        }
    }

    void recordsFollowTheirDefinition() {
        for (const int bits : {1, 2, 4, 8}) {
            for (int v = 0; v < 32; ++v) {
                uint8_t codes[32] = {}, record[32] = {}, back[32] = {};
                codes[v] = 1;
                packRecord(bits, codes, 0, record);
                // Value 4d + j is byte j of word d mod b, at bit b·⌊d/b⌋.
                const int d = v / 4, j = v % 4;
                QCOMPARE(int(record[4 * (d % bits) + j]), 1 << (bits * (d / bits)));
                unpackRecord(bits, record, 0, back);
                QVERIFY(std::memcmp(codes, back, 32) == 0);
            }
        }
    }
    void planesByHand() {
        // q5_0, one row of 32: code of value 20 is 0x1b: low plane nibble b in byte 4 high, high
        // plane (1 word) bit: d = 5, byte 0 at bit 5.
        TensorBuilder builder("t", getFormat("q5_0"), 1, 32);
        uint8_t codes[32] = {};
        codes[20] = 0x1b;
        builder.setCodes(0, codes);
        builder.setScale(0, 0, 0x3c00);
        const Tensor t = builder.finish();
        QCOMPARE(t.codes.size(), size_t(20));
        QCOMPARE(int(t.codes.view()[4]), 0xb0);
        QCOMPARE(int(t.codes.view()[16]), 0x20);
        QCOMPARE(t.scales.as<uint16_t>()[0], uint16_t(0x3c00));
        QCOMPARE(decode(t)[20], 11.0f);
        QCOMPARE(t.planeBytes(), uint64_t(22));
        QCOMPARE(t.storedBytes(), uint64_t(22));
    }
    void bitsPerWeightAreThePublishedOnes_data() {
        QTest::addColumn<double>("expected");
        const std::pair<const char*, double> rows[] = {{"f16", 16},
                                                       {"q4_0", 4.5},
                                                       {"q4_1", 5},
                                                       {"q5_0", 5.5},
                                                       {"q5_1", 6},
                                                       {"q8_0", 8.5},
                                                       {"q2_k", 2.625},
                                                       {"q3_k", 3.4375},
                                                       {"q4_k", 4.5},
                                                       {"q5_k", 5.5},
                                                       {"q6_k", 6.5625},
                                                       {"iq4_nl", 4.5},
                                                       {"iq4_xs", 4.25},
                                                       {"mxfp4", 4.25},
                                                       {"nvfp4", 4.5},
                                                       {"tq2_0", 2.0625},
                                                       {"int4_g128", 4.125},
                                                       {"int4_g128z", 4.15625},
                                                       {"int8", 8 + 32.0 / 256},
                                                       {"int4_g32z", 4.625},
                                                       {"int8_g128", 8.125}};
        for (const auto& [name, expected] : rows)
            QTest::newRow(name) << expected;
    }
    void bitsPerWeightAreThePublishedOnes() {
        QFETCH(double, expected);
        QCOMPARE(getFormat(QTest::currentDataTag()).bitsPerWeight(256), expected);
    }
    void tablesAgreeWithTheirIntegers() {
        for (const Format& f : formats())
            if (f.table)
                for (size_t c = 0; c < 16; ++c) {
                    const float integer = f.unit * f.table->integer[c];
                    if (std::string_view(f.name).starts_with("nf4")) // rounded to 1/127
                        QVERIFY(std::abs(f.table->exact[c] - integer) <= 0.5f / 127);
                    else
                        QCOMPARE(f.table->exact[c], integer);
                }
    }
    void namesAreUniqueAndFound() {
        for (const Format& f : formats())
            QCOMPARE(findFormat(f.name), &f);
        QVERIFY(findFormat("q4") == nullptr);
        try {
            getFormat("q4");
            QFAIL("found");
        } catch (const Error& e) {
            QCOMPARE(e.kind(), ErrorKind::Usage);
            QVERIFY(std::string_view(e.what()).find("q4_k") != std::string_view::npos);
        }
    }
    void floatTensorsRoundOnce() {
        const std::vector<float> values = {1.0f,     -0.0f,    1.0f + 0x1p-11f,
                                           65520.0f, 0x1p-24f, 3.14159f};
        for (const char* name : {"f32", "f16", "bf16"}) {
            const Tensor t = makeFloatTensor("t", getFormat(name), 2, 3, values);
            const auto back = decode(t);
            for (size_t i = 0; i < values.size(); ++i) {
                const float expected = t.format->code == CodeKind::Float32 ? values[i]
                                       : t.format->code == CodeKind::Float16
                                           ? halfToFloat(floatToHalf(values[i]))
                                           : bfloatToFloat(floatToBfloat(values[i]));
                QCOMPARE(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(expected));
            }
            QCOMPARE(t.planeBytes(), uint64_t(6 * t.format->bits / 8));
        }
    }
    void float8Scales() {
        QCOMPARE(e4m3ToFloat(0x38), 1.0f);
        QCOMPARE(e4m3ToFloat(0x01), 0x1p-9f);
        QCOMPARE(e4m3ToFloat(0x7e), 448.0f);
        QCOMPARE(e4m3ToFloat(0x7f), 0.0f);
        QCOMPARE(e8m0ToDouble(0), 0x1p-127);
        QCOMPARE(e8m0ToDouble(255), 0x1p128);
    }
    void absurdSizesAreOutOfMemory() {
#ifdef __SANITIZE_ADDRESS__
        QSKIP("the address sanitizer ends the program where operator new would throw");
#endif
        try {
            TensorBuilder("huge", getFormat("q8_0"), int64_t(1) << 28, int64_t(1) << 19);
            QFAIL("allocated 2^47 bytes");
        } catch (const Error& e) {
            QCOMPARE(e.kind(), ErrorKind::OutOfMemory);
        }
    }
};

QTEST_GUILESS_MAIN(TestFormats)
#include "test_formats.moc"
