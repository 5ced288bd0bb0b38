#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/random.h"
#include "core/files/checkpoint.h"
#include "core/files/lattice_grids.h"
#include "tests/support/shared_data.h"

#include <QTest>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace nibble;
using namespace nibble::blocks;

namespace {

const BlockType& typeNamed(std::string_view name) {
    for (const BlockType& type : blockTypes())
        if (type.name == name)
            return type;
    throw std::runtime_error(std::string(name));
}

std::vector<float> decodeBlocks(const BlockType& type, const std::vector<uint8_t>& bytes) {
    const auto count = static_cast<int64_t>(bytes.size() / type.blockBytes);
    std::vector<float> values(static_cast<size_t>(count * 256));
    type.decode(reinterpret_cast<const std::byte*>(bytes.data()), count, values.data());
    return values;
}

/// One block that is zero but for some bytes.
std::vector<float> decodeOne(const char* name, std::initializer_list<std::pair<int, int>> bytes) {
    const BlockType& type = typeNamed(name);
    std::vector<uint8_t> block(type.blockBytes);
    for (const auto& [at, value] : bytes)
        block[static_cast<size_t>(at)] = static_cast<uint8_t>(value);
    return decodeBlocks(type, block);
}

TensorInfo tensorOf(const BlockType& type, int64_t rows, std::vector<uint8_t> bytes) {
    TensorInfo info;
    info.name = type.name;
    info.type = &type;
    info.dims = {rows, static_cast<int64_t>(bytes.size() / type.blockBytes) / rows * 256};
    info.bytes = Bytes::of(std::move(bytes));
    return info;
}

std::vector<uint8_t> readBytes(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<uint8_t> randomBlocks(const BlockType& type, int count) {
    std::vector<uint8_t> bytes(type.blockBytes * static_cast<size_t>(count));
    Random random(77);
    for (uint8_t& byte : bytes)
        byte = static_cast<uint8_t>(random.next());
    return bytes;
}

bool sameBits(float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
           (std::isnan(a) && std::isnan(b));
}

/// A second decoder, by value instead of by block: it looks each field up by its first bit (the
/// published layouts as bit addresses) and multiplies in double.
class Naive {
public:
    explicit Naive(const uint8_t* block) : m_block(block) {}

    double value(std::string_view type, int i) const {
        if (type == "iq2_xxs") // 8 bytes for 32 values from byte 2
            return signedValue(gridIq2_xxs(), bits(16 + i / 32 * 64 + i / 8 % 4 * 8, 8), i,
                               sevenBit(16 + i / 32 * 64 + 32 + i / 8 % 4 * 7, i),
                               half(0) * (2 * bits(16 + i / 32 * 64 + 60, 4) + 1) / 8);
        if (type == "iq2_xs")
            return signedValue(gridIq2_xs(), bits(16 + i / 8 * 16, 9), i,
                               sevenBit(16 + i / 8 * 16 + 9, i),
                               half(0) * (2 * bits(66 * 8 + i / 16 * 4, 4) + 1) / 8);
        if (type == "iq2_s")
            return signedValue(
                gridIq2_s(), bits(16 + i / 8 * 8, 8) + 256 * bits(66 * 8 + i / 8 * 2, 2), i,
                bits(34 * 8 + i, 1) != 0, half(0) * (2 * bits(74 * 8 + i / 16 * 4, 4) + 1) / 8);
        if (type == "iq3_xxs")
            return signedValue(gridIq3_xxs(), bits(16 + i / 4 * 8, 8), i,
                               sevenBit(66 * 8 + i / 32 * 32 + i / 8 % 4 * 7, i),
                               half(0) * (2 * bits(66 * 8 + i / 32 * 32 + 28, 4) + 1) / 4);
        if (type == "iq3_s")
            return signedValue(gridIq3_s(), bits(16 + i / 4 * 8, 8) + 256 * bits(66 * 8 + i / 4, 1),
                               i, bits(74 * 8 + i, 1) != 0,
                               half(0) * (2 * bits(106 * 8 + i / 32 * 4, 4) + 1));
        if (type == "iq1_s")
            return shifted(bits(16 + i / 8 * 8, 8) +
                               256 * bits(34 * 8 + i / 32 * 16 + i / 8 % 4 * 3, 3),
                           i, bits(34 * 8 + i / 32 * 16 + 15, 1) != 0,
                           half(0) * (2 * bits(34 * 8 + i / 32 * 16 + 12, 3) + 1));
        const int d = bits(48 * 8 + 12, 4) + 16 * bits(50 * 8 + 12, 4) +
                      256 * bits(52 * 8 + 12, 4) + 4096 * bits(54 * 8 + 12, 4);
        return shifted(bits(i / 8 * 8, 8) + 256 * bits(32 * 8 + i / 8 * 4, 3), i,
                       bits(32 * 8 + i / 8 * 4 + 3, 1) != 0,
                       double(halfToFloat(static_cast<uint16_t>(d))) *
                           (2 * bits(48 * 8 + i / 64 * 16 + i / 16 % 4 * 3, 3) + 1));
    }

private:
    int bits(int first, int count) const {
        int value = 0;
        for (int k = 0; k < count; ++k)
            value += (m_block[(first + k) / 8] >> ((first + k) % 8) & 1) << k;
        return value;
    }
    double half(int first) const {
        return double(halfToFloat(static_cast<uint16_t>(bits(first, 16))));
    }
    /// Bit i mod 8 of seven stored signs, or for the eighth whether an odd number of them is set.
    bool sevenBit(int first, int i) const {
        if (i % 8 < 7)
            return bits(first + i % 8, 1) != 0;
        int set = 0;
        for (int k = 0; k < 7; ++k)
            set += bits(first + k, 1);
        return set % 2 != 0;
    }
    static double signedValue(const LatticeGrid& grid, int index, int i, bool minus, double scale) {
        const double value = scale * grid.point(static_cast<unsigned>(index))[i % grid.dims];
        return minus ? -value : value;
    }
    static double shifted(int index, int i, bool down, double scale) {
        return scale *
               (gridIq1().point(static_cast<unsigned>(index))[i % 8] + (down ? -0.125 : 0.125));
    }

    const uint8_t* m_block;
};

/// What a grid must be: its size, its coordinates, and numbers taken from the published table.
struct Expected {
    const char* name;
    const LatticeGrid& (*grid)();
    int points, dims, bits; ///< of one coordinate in the published packed form
    bool even;
    std::vector<int> steps;
    std::vector<std::pair<int, uint32_t>> known; ///< index, packed point
    uint32_t checksum;                           ///< 31-fold hash of all packed points
};

const std::vector<Expected> kExpected = {
    {"iq1",
     gridIq1,
     2048,
     8,
     2,
     false,
     {-1, 0, 1},
     {{1, 0x0002}, {682, 0x4216}, {1029, 0x5555}, {2046, 0xaaa8}},
     0x2f02d8f3},
    {"iq2_xxs",
     gridIq2_xxs,
     256,
     8,
     2,
     true,
     {8, 25, 43},
     {{1, 0x0002}, {85, 0x115a}, {133, 0x4004}, {254, 0xa850}},
     0xd4b6b4ff},
    {"iq2_xs",
     gridIq2_xs,
     512,
     8,
     2,
     true,
     {8, 25, 43},
     {{1, 0x0002}, {170, 0x1210}, {261, 0x4018}, {510, 0xaa91}},
     0x176bd4af},
    {"iq2_s",
     gridIq2_s,
     1024,
     8,
     2,
     true,
     {8, 25, 43},
     {{1, 0x0002}, {341, 0x1806}, {517, 0x4150}, {1022, 0xaa88}},
     0x67967065},
    {"iq3_xxs",
     gridIq3_xxs,
     256,
     4,
     4,
     true,
     {4, 12, 20, 28, 36, 44, 52, 62},
     {{1, 0x0002}, {85, 0x1346}, {133, 0x2527}, {254, 0x7524}},
     0x2a35138e},
    {"iq3_s",
     gridIq3_s,
     512,
     4,
     4,
     false,
     {1, 3, 5, 7, 9, 11, 13, 15},
     {{1, 0x0001}, {170, 0x1433}, {261, 0x2475}, {510, 0x7631}},
     0x06fa7d73},
};

} // namespace

class TestLattices : public QObject {
    Q_OBJECT
private slots:
    void gridsAreThePublishedOnes_data() {
        QTest::addColumn<int>("row");
        for (size_t i = 0; i < kExpected.size(); ++i)
            QTest::newRow(kExpected[i].name) << static_cast<int>(i);
    }
    void gridsAreThePublishedOnes() {
        QFETCH(int, row);
        const Expected& expected = kExpected[static_cast<size_t>(row)];
        const LatticeGrid& grid = expected.grid();
        QCOMPARE(grid.dims, expected.dims);
        QCOMPARE(grid.points(), expected.points);
        std::vector<uint32_t> packed;
        uint32_t checksum = 0;
        for (int p = 0; p < grid.points(); ++p) {
            uint32_t word = 0;
            int sum = 0;
            for (int j = 0; j < grid.dims; ++j) {
                const auto at = std::find(expected.steps.begin(), expected.steps.end(),
                                          grid.point(static_cast<unsigned>(p))[j]);
                QVERIFY(at != expected.steps.end());
                const auto step = static_cast<int>(at - expected.steps.begin());
                word |= static_cast<uint32_t>(step) << (expected.bits * j);
                sum += step;
            }
            QVERIFY(!expected.even || sum % 2 == 0);
            QVERIFY(packed.empty() || word > packed.back());
            packed.push_back(word);
            checksum = checksum * 31 + word;
        }
        for (const auto& [index, word] : expected.known)
            QCOMPARE(packed[static_cast<size_t>(index)], word);
        QCOMPARE(checksum, expected.checksum);
    }

    void oraclesDecodeBitExactly_data() {
        QTest::addColumn<QString>("name");
        QTest::newRow("iq3_s") << "iq3_s";
        QTest::newRow("iq3_xxs") << "iq3_xxs";
    }
    void oraclesDecodeBitExactly() {
        QFETCH(QString, name);
        const std::string stem = "oracles/formats/" + name.toStdString();
        NIBBLE_NEED_SHARED((stem + ".values.npy").c_str());
        const BlockType& type = typeNamed(name.toStdString());
        const auto bytes = readBytes(test::sharedPath((stem + ".blocks.bin").c_str()));
        const auto expected = test::readNpy(test::sharedPath((stem + ".values.npy").c_str()));
        const auto values = decodeBlocks(type, bytes);
        QCOMPARE(values.size(), expected.values.size());
        for (size_t i = 0; i < values.size(); ++i)
            QVERIFY2(sameBits(values[i], expected.values[i]), qPrintable(QString::number(i)));
        // What they run as.
        const auto stored = decode(loadTensor(tensorOf(type, 16, bytes)));
        const double error = test::relativeError(stored, expected.values);
        qInfo("f16 moves the weights by %.2g", error);
        QVERIFY(error < 0x1p-12);
    }

    void randomBlocksDecodeAsByASecondDecoder_data() {
        QTest::addColumn<QString>("name");
        for (const BlockType& type : blockTypes())
            if (type.decode)
                QTest::newRow(type.name) << QString(type.name);
    }
    void randomBlocksDecodeAsByASecondDecoder() {
        QFETCH(QString, name);
        const BlockType& type = typeNamed(name.toStdString());
        const auto bytes = randomBlocks(type, 64);
        const auto values = decodeBlocks(type, bytes);
        for (int block = 0; block < 64; ++block) {
            const Naive naive(bytes.data() + type.blockBytes * static_cast<size_t>(block));
            for (int i = 0; i < 256; ++i) {
                const auto expected = static_cast<float>(naive.value(type.name, i));
                const float value = values[static_cast<size_t>(block * 256 + i)];
                QVERIFY2(sameBits(value, expected),
                         qPrintable(QStringLiteral("block %1, value %2: %3, expected %4")
                                        .arg(block)
                                        .arg(i)
                                        .arg(value)
                                        .arg(expected)));
            }
        }
        // Loading rounds each value once, in whatever chunks the rows are taken.
        const Tensor tensor = loadTensor(tensorOf(type, 16, bytes));
        QCOMPARE(tensor.format, &getFormat("f16"));
        QCOMPARE(tensor.rows, 16);
        QCOMPARE(tensor.cols, 1024);
        const auto halves = tensor.codes.as<uint16_t>();
        for (size_t i = 0; i < values.size(); ++i)
            QCOMPARE(halves[i], floatToHalf(values[i]));
        QVERIFY_EXCEPTION_THROWN(toStoredBytes(tensor, type), Error);
    }

    // Golden blocks: every expected value follows from the layouts in ggml-common.h by hand. d is
    // 1 (0x3c00) throughout.
    void iq2_xxsByHand() {
        // Point 1 is the code 0x0002: 43 and seven 8s. Values 8–15: signs 0x01 (of the first value)
        // and so the eighth; scale 2 → (2 + 1/2) / 4.
        const auto v = decodeOne("iq2_xxs", {{1, 0x3c}, {3, 1}, {6, 0x80}, {9, 0x20}});
        QCOMPARE(v[8], -43 * 0.625f);
        QCOMPARE(v[9], 8 * 0.625f);
        QCOMPARE(v[15], -8 * 0.625f);
        QCOMPARE(v[0], 8 * 0.625f);
        QCOMPARE(v[32], 8 * 0.125f);
    }
    void iq2_xsByHand() {
        // Word 2 (values 16–23): index 511 (0xaaaa: all 43), signs 3; scale of 16–31: 15.
        const auto v = decodeOne("iq2_xs", {{1, 0x3c}, {6, 0xff}, {7, 0x07}, {66, 0xf0}});
        QCOMPARE(v[16], -43 * 15.5f * 0.25f);
        QCOMPARE(v[17], -43 * 15.5f * 0.25f);
        QCOMPARE(v[18], 43 * 15.5f * 0.25f);
        QCOMPARE(v[23], 43 * 15.5f * 0.25f);
        QCOMPARE(v[24], 8 * 15.5f * 0.25f);
        QCOMPARE(v[0], 8 * 0.125f);
    }
    void iq2_sByHand() {
        // Index 31 (values 248–255): low byte 255, high bits 3 → 1023, all 43; sign of the last.
        const auto v =
            decodeOne("iq2_s", {{1, 0x3c}, {33, 0xff}, {65, 0x80}, {73, 0xc0}, {81, 0x10}});
        QCOMPARE(v[248], 43 * 1.5f * 0.25f);
        QCOMPARE(v[255], -43 * 1.5f * 0.25f);
        QCOMPARE(v[247], 8 * 1.5f * 0.25f);
        QCOMPARE(v[239], 8 * 0.125f);
    }
    void iq3_xxsByHand() {
        // Index 3 (values 12–15) = 1: code 0x0002, 20 4 4 4. Signs 4–7 of the second run of 8 are
        // bits 11–13 of the word and the parity: 0x10 << 7 → value 12, and so the eighth, 15.
        const auto v = decodeOne("iq3_xxs", {{1, 0x3c}, {5, 1}, {67, 0x08}, {69, 0x30}});
        QCOMPARE(v[12], -20 * 1.75f);
        QCOMPARE(v[13], 4 * 1.75f);
        QCOMPARE(v[15], -4 * 1.75f);
        QCOMPARE(v[0], 4 * 1.75f);
        QCOMPARE(v[32], 4 * 0.25f);
    }
    void iq3_sByHand() {
        // Index 9 (values 36–39): 255 and high bit (byte 67, bit 1) → 511: code 0x7700, 1 1 15 15.
        const auto v =
            decodeOne("iq3_s", {{1, 0x3c}, {11, 0xff}, {67, 0x02}, {78, 0x80}, {106, 0x30}});
        QCOMPARE(v[36], 1 * 7.0f);
        QCOMPARE(v[38], 15 * 7.0f);
        QCOMPARE(v[39], -15 * 7.0f);
        QCOMPARE(v[0], 1.0f);
    }
    void iq1_sByHand() {
        // Word 1 (values 32–63): scale 3 → 7, shift down, high bits of index 5 (values 40–47): 7;
        // its low byte 255 → 2047: all 1. Others are point 0: all −1.
        const auto v = decodeOne("iq1_s", {{1, 0x3c}, {7, 0xff}, {36, 0x38}, {37, 0xb0}});
        QCOMPARE(v[40], 7 * (1 - 0.125f));
        QCOMPARE(v[47], 7 * (1 - 0.125f));
        QCOMPARE(v[32], 7 * (-1 - 0.125f));
        QCOMPARE(v[0], -1 + 0.125f);
    }
    void iq1_mByHand() {
        // d = 1: top nibbles 0, 0, 12, 3. Index 31: 255, nibble 0xf → 2047, shift down; group 15's
        // scale: bits 9–11 of word 3 = 2 → 5.
        const auto v = decodeOne("iq1_m", {{31, 0xff}, {47, 0xf0}, {53, 0xc0}, {55, 0x34}});
        QCOMPARE(v[248], 5 * (1 - 0.125f));
        QCOMPARE(v[240], 5 * (-1 + 0.125f));
        QCOMPARE(v[0], -1 + 0.125f);
    }
};

QTEST_GUILESS_MAIN(TestLattices)
#include "test_lattices.moc"
