#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/random.h"
#include "core/files/checkpoint.h"
#include "tests/support/shared_data.h"

#include <QTest>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace nibble;

namespace {

std::vector<std::byte> readBytes(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

TensorInfo tensorOf(const BlockType& type, std::vector<int64_t> dims,
                    std::vector<std::byte> bytes) {
    TensorInfo info;
    info.name = type.name;
    info.dims = std::move(dims);
    info.type = &type;
    info.bytes = Bytes::of(std::move(bytes));
    return info;
}

const BlockType& typeNamed(const char* name) {
    for (const BlockType& type : blockTypes())
        if (std::string_view(type.name) == name)
            return type;
    throw std::runtime_error(name);
}

/// Bits must agree; NaN may differ in payload.
bool sameBits(float a, float b) {
    return std::memcmp(&a, &b, 4) == 0 || (std::isnan(a) && std::isnan(b));
}

/// A row of 32 or 256 values whose block is `head` bytes followed by zeros.
std::vector<float> decodeOne(const char* name, std::initializer_list<std::pair<int, int>> bytes) {
    const BlockType& type = typeNamed(name);
    std::vector<std::byte> block(type.blockBytes);
    for (const auto& [at, value] : bytes)
        block[static_cast<size_t>(at)] = static_cast<std::byte>(value);
    return decode(loadTensor(tensorOf(type, {1, type.blockValues}, block)));
}

} // namespace

class TestBlockTypes : public QObject {
    Q_OBJECT
private slots:
    void oraclesDecodeBitExactly_data() {
        QTest::addColumn<QString>("name");
        for (const BlockType& type : blockTypes())
            if (type.format && !type.decode && type.ggufType > 1 &&
                std::string_view(type.name) != "nvfp4")
                QTest::newRow(type.name) << QString(type.name);
    }
    void oraclesDecodeBitExactly() {
        QFETCH(QString, name);
        const std::string stem = "oracles/formats/" + name.toStdString();
        NIBBLE_NEED_SHARED((stem + ".values.npy").c_str());
        const BlockType& type = typeNamed(name.toStdString().c_str());
        const auto bytes = readBytes(test::sharedPath((stem + ".blocks.bin").c_str()));
        const auto expected = test::readNpy(test::sharedPath((stem + ".values.npy").c_str()));
        const Tensor tensor = loadTensor(tensorOf(type, expected.shape, bytes));
        const auto values = decode(tensor);
        QCOMPARE(values.size(), expected.values.size());
        for (size_t i = 0; i < values.size(); ++i)
            if (!sameBits(values[i], expected.values[i]))
                QFAIL(qPrintable(QString("value %1: %2, expected %3")
                                     .arg(i)
                                     .arg(values[i])
                                     .arg(expected.values[i])));
        const Bytes back = toStoredBytes(tensor, type);
        QVERIFY(std::ranges::equal(back.view(), bytes));
    }

    void randomBlocksSurvive_data() {
        QTest::addColumn<QString>("name");
        for (const BlockType& type : blockTypes())
            if (type.toPlanes)
                QTest::newRow(type.name) << QString(type.name);
    }
    void randomBlocksSurvive() {
        QFETCH(QString, name);
        const BlockType& type = typeNamed(name.toStdString().c_str());
        const int64_t rows = 37, cols = type.blockValues * 5;
        std::vector<std::byte> bytes(static_cast<size_t>(rows * 5 * type.blockBytes));
        Random random(41);
        for (std::byte& byte : bytes)
            byte = static_cast<std::byte>(random.next());
        const Bytes once = toStoredBytes(loadTensor(tensorOf(type, {rows, cols}, bytes)), type);
        if (name == "tq1_0") { // aliases become canonical at once, and stay so
            const std::vector<std::byte> canonical(once.view().begin(), once.view().end());
            const Tensor first = loadTensor(tensorOf(type, {rows, cols}, bytes));
            const Tensor second = loadTensor(tensorOf(type, {rows, cols}, canonical));
            QVERIFY(std::ranges::equal(first.codes.view(), second.codes.view()));
            QVERIFY(std::ranges::equal(toStoredBytes(second, type).view(), canonical));
        } else {
            QVERIFY(std::ranges::equal(once.view(), bytes));
        }
    }

    // Golden blocks: every expected value follows from the layouts in ggml-common.h by hand.
    void q4_0ByHand() {
        // d = 0.5; byte 2 (value 0 low, value 16 high) = 0xf1; all other codes 0 → −8.
        const auto v = decodeOne("q4_0", {{1, 0x38}, {2, 0xf1}});
        QCOMPARE(v[0], 0.5f * (1 - 8));
        QCOMPARE(v[16], 0.5f * (15 - 8));
        QCOMPARE(v[1], -4.0f);
    }
    void q4_1ByHand() {
        const auto v = decodeOne("q4_1", {{1, 0x38}, {3, 0xc0}, {5, 0x42}}); // d 0.5, m −2
        QCOMPARE(v[1], 0.5f * 2 - 2);
        QCOMPARE(v[17], 0.5f * 4 - 2);
        QCOMPARE(v[2], -2.0f);
    }
    void q5_0ByHand() {
        // fifth bits of values 0 and 31: bytes 2 bit 0 and 5 bit 7; nibbles of value 31 = 3.
        const auto v = decodeOne("q5_0", {{1, 0x3c}, {2, 1}, {5, 0x80}, {21, 0x30}});
        QCOMPARE(v[0], 0.0f);
        QCOMPARE(v[31], 3.0f);
        QCOMPARE(v[15], -16.0f);
    }
    void q8_0ByHand() {
        const auto v = decodeOne("q8_0", {{1, 0x40}, {2, 0x80}, {33, 0x7f}}); // d 2
        QCOMPARE(v[0], -256.0f);
        QCOMPARE(v[31], 254.0f);
    }
    void q2_kByHand() {
        // d 1, dmin 0.5; group 1 (values 16–31): scale 3, offset 2; value 16: byte 16 + 16, code 2.
        const auto v = decodeOne("q2_k", {{1, 0x23}, {32, 2}, {81, 0x3c}, {83, 0x38}});
        QCOMPARE(v[16], 1.0f * 3 * 2 - 0.5f * 2);
        QCOMPARE(v[17], -1.0f);
        QCOMPARE(v[0], 0.0f);
    }
    void q3_kByHand() {
        // d 1; scale of group 0: low 5 (byte 96), high 2 (byte 104 bits 0–1) → 37 − 32 = 5.
        const auto v = decodeOne("q3_k", {{0, 1}, {32, 3}, {96, 5}, {104, 2}, {109, 0x3c}});
        QCOMPARE(v[0], 5.0f * (3 + 4 - 4));
        QCOMPARE(v[1], 5.0f * (0 - 4));
        QCOMPARE(v[255], -32.0f * -4);
    }
    void q4_kByHand() {
        // d 1, dmin 1; group 4: scale low nibble of byte 12 = 7 with top bits of byte 4 = 1 → 23;
        // offset high nibble of byte 12 = 2, top bits of byte 8 = 0. Value 128: byte 16 + 64 low
        // = 3.
        const auto v = decodeOne("q4_k", {{1, 0x3c}, {3, 0x3c}, {4, 0x40}, {12, 0x27}, {80, 3}});
        QCOMPARE(v[128], 23.0f * 3 - 2);
        QCOMPARE(v[129], -2.0f);
        QCOMPARE(v[0], 0.0f);
    }
    void q5_kByHand() {
        // d 1, scale of group 1 = 2 (byte 5); value 32: high nibble of byte 48, fifth bit 1 of
        // byte 16.
        const auto v = decodeOne("q5_k", {{1, 0x3c}, {5, 2}, {16, 2}, {48, 0x90}});
        QCOMPARE(v[32], 2.0f * (16 + 9));
        QCOMPARE(v[33], 0.0f);
    }
    void q6_kByHand() {
        // d 1; group 4 (values 64–79): scale −3; value 64: high nibble of byte 0 = 5, qh byte 128
        // bits 4–5 = 2.
        const auto v = decodeOne("q6_k", {{0, 0x50}, {128, 0x20}, {196, 0xfd}, {209, 0x3c}});
        QCOMPARE(v[64], -3.0f * (5 + 32 - 32));
        QCOMPARE(v[65], -3.0f * -32);
    }
    void iq4_xsByHand() {
        // d 1; group 1: low 4 bits (byte 4 high nibble) 3, high bits (bits 2–3 of byte 2) 2 → 35 −
        // 32 = 3.
        const auto v = decodeOne("iq4_xs", {{1, 0x3c}, {2, 8}, {4, 0x30}, {24, 0xf0}});
        QCOMPARE(v[32], 3.0f * -127);
        QCOMPARE(v[48], 3.0f * 113);
    }
    void mxfp4ByHand() {
        const auto v = decodeOne("mxfp4", {{0, 128}, {1, 0xf7}}); // scale 2
        QCOMPARE(v[0], 12.0f);
        QCOMPARE(v[16], -12.0f);
        QCOMPARE(decodeOne("mxfp4", {{0, 0}, {1, 1}})[0], 0x1p-128f);
        QCOMPARE(decodeOne("mxfp4", {{0, 255}, {1, 2}})[0], std::ldexp(2.0f, 127));
    }
    void nvfp4ByHand() {
        // Scale of group 2 = 0x3c (1.5); its byte 4 + 16 holds values 32 (low: 6) and 40 (high:
        // −0.5).
        const auto v = decodeOne("nvfp4", {{2, 0x3c}, {20, 0x97}});
        QCOMPARE(v[32], 9.0f);
        QCOMPARE(v[40], -0.75f);
        QCOMPARE(v[41], 0.0f);
    }
    void ternaryByHand() {
        const auto two = decodeOne("tq2_0", {{0, 0x02}, {63, 0xc0}, {65, 0x3c}});
        QCOMPARE(two[0], 1.0f);
        QCOMPARE(two[255], 2.0f);
        QCOMPARE(two[1], -1.0f);
        // digits 2 1 0 2 1 in base 3 = 2·81 + 27 + 0 + 6 + 1 = 196 → ⌈196·256/243⌉ = 207
        const auto one = decodeOne("tq1_0", {{0, 207}, {53, 0x3c}});
        QCOMPARE(one[0], 1.0f);
        QCOMPARE(one[32], 0.0f);
        QCOMPARE(one[64], -1.0f);
        QCOMPARE(one[96], 1.0f);
        QCOMPARE(one[128], 0.0f);
    }

    void listedTypesRefuseToLoad() {
        const BlockType& type = typeNamed("q8_k");
        const TensorInfo info = tensorOf(type, {1, 256}, std::vector<std::byte>(292));
        try {
            loadTensor(info);
            QFAIL("loaded");
        } catch (const Error& e) {
            QCOMPARE(e.kind(), ErrorKind::BadInput);
            QVERIFY(std::string_view(e.what()).find("q8_k") != std::string_view::npos);
        }
    }
    void formatsKnowTheirGgufType() {
        QCOMPARE(blockTypeOf(getFormat("q6_k"))->ggufType, 14);
        QCOMPARE(blockTypeOf(getFormat("f16"))->ggufType, 1); // not a type that is decoded to it
        QVERIFY(blockTypeOf(getFormat("int4_g128")) == nullptr);
        QVERIFY(findBlockType(-1) == nullptr);
        QVERIFY(findBlockType(4) == nullptr);
    }
    void wrongWidthIsRefused() {
        const Tensor odd = TensorBuilder("odd", getFormat("q4_0"), 2, 48).finish();
        QVERIFY_EXCEPTION_THROWN(toStoredBytes(odd, typeNamed("q4_0")), Error);
        QVERIFY_EXCEPTION_THROWN(toStoredBytes(odd, typeNamed("q8_0")), Error);
    }
};

QTEST_GUILESS_MAIN(TestBlockTypes)
#include "test_block_types.moc"
