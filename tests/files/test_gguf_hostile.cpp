#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/files/checkpoint.h"
#include "tests/files/gguf_bytes.h"

#include <QTemporaryDir>
#include <QTest>
#include <fstream>

using namespace nibble;
using nibble::test::GgufBytes;

Q_DECLARE_METATYPE(std::string)

namespace {

constexpr uint64_t kHuge = ~0ull;

/// One 32-value f32 row after one entry.
GgufBytes valid(std::initializer_list<uint64_t> dims = {8, 4}, uint32_t type = 0,
                uint64_t offset = 0) {
    GgufBytes file(1, 1);
    file.key("general.name", 8).text("small");
    return file.tensor("a", dims, type, offset).pad().data(128);
}

GgufBytes withAlignment(uint32_t alignment) {
    GgufBytes file(1, 1);
    return file.entry("general.alignment", alignment).tensor("a", {8, 4}, 0, 0).pad(64).data(128);
}

GgufBytes withEntry(std::string_view key, uint32_t type) {
    GgufBytes file(0, 1);
    return file.key(key, type);
}

GgufBytes twoTensors(uint64_t second, std::string_view name = "b") {
    GgufBytes file(2, 0);
    return file.tensor("a", {8, 4}, 0, 0).tensor(name, {8, 4}, 0, second).pad().data(256);
}

} // namespace

class TestGgufHostile : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    std::filesystem::path write(const std::string& bytes, const char* name = "model.gguf") {
        const auto path = std::filesystem::path(m_folder.path().toStdString()) / name;
        std::ofstream(path, std::ios::binary) << bytes;
        return path;
    }
    /// The sentence of the refusal, or "opened".
    std::string refusal(const std::string& bytes) {
        try {
            openCheckpoint(write(bytes));
            return "opened";
        } catch (const Error& e) {
            return e.kind() == ErrorKind::BadInput ? e.what()
                                                   : std::string("wrong kind: ") + e.what();
        }
    }

private slots:
    void theValidOnesOpen() {
        QCOMPARE(refusal(valid().bytes()), std::string("opened"));
        QCOMPARE(refusal(withAlignment(64).bytes()), std::string("opened"));
        QCOMPARE(refusal(twoTensors(128).bytes()), std::string("opened"));
        QCOMPARE(refusal(GgufBytes(0, 0, 2).bytes()), std::string("opened"));
    }

    void everyPrefixIsRefused() {
        const std::string bytes = valid().bytes();
        for (size_t n = 0; n < bytes.size(); ++n) {
            const std::string sentence = refusal(bytes.substr(0, n));
            QVERIFY2(sentence.find("model.gguf: ") == 0,
                     qPrintable(QString("prefix %1: %2").arg(n).arg(sentence.c_str())));
        }
    }
    void flippedBitsNeverCrash() {
        const std::string bytes = valid().bytes();
        int opened = 0;
        for (size_t bit = 0; bit < (bytes.size() - 128) * 8; ++bit) {
            std::string damaged = bytes;
            damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
            opened += refusal(damaged) == "opened";
        }
        QVERIFY(opened > 0); // a changed letter in a name is harmless
    }

    void latticesOfAnyBytesLoad_data() {
        QTest::addColumn<int>("type");
        for (const int type : {16, 17, 18, 19, 21, 22, 29})
            QTest::newRow(findBlockType(type)->name) << type;
    }
    void latticesOfAnyBytesLoad() {
        QFETCH(int, type);
        // Every index of every grid is within it, whatever the bytes.
        for (const char fill : {'\0', '\x55', '\xaa', '\xff'}) {
            GgufBytes file(1, 0);
            file.tensor("a", {256, 1}, static_cast<uint32_t>(type), 0).pad().data(128, fill);
            const auto checkpoint = openCheckpoint(write(file.bytes()));
            QCOMPARE(loadTensor(checkpoint->get("a")).values(), 256);
        }
        const std::string whole = valid({256, 1}, static_cast<uint32_t>(type)).bytes();
        const size_t header = whole.size() - 128;
        const size_t needed = header + findBlockType(type)->blockBytes;
        for (size_t n = header; n < needed; ++n)
            QCOMPARE(refusal(whole.substr(0, n)).find("model.gguf: "), size_t(0));
        QCOMPARE(refusal(whole.substr(0, needed)), std::string("opened"));
    }

    void attacksAreNamed_data() {
        QTest::addColumn<std::string>("bytes");
        QTest::addColumn<QString>("says");
        const auto row = [](const char* name, const GgufBytes& file, const char* says) {
            QTest::newRow(name) << file.bytes() << QString(says);
        };
        row("tensor count 2^64-1", GgufBytes(kHuge, 0), "tensors");
        row("entry count 2^64-1", GgufBytes(0, kHuge), "metadata entries");
        row("entry count over file", GgufBytes(0, 1000).data(14 * 1000 - 1), "cannot fit");
        row("tensor count over file", GgufBytes(1000, 0).data(33 * 1000 - 1), "cannot fit");
        row("tensor count over limit", GgufBytes(limits::kTensors + 1, 0), "at most");
        row("version 1", GgufBytes(0, 0, 1), "version 1");
        row("version 4", GgufBytes(0, 0, 4), "newer");
        row("big-endian", GgufBytes(0, 0, 0x03000000), "big-endian");
        row("version 0", GgufBytes(0, 0, 0), "version 0");
        row("dims product wraps", valid({1ull << 32, 1ull << 32}), "values");
        row("dims product wraps to small", valid({(1ull << 33) + 1, 1ull << 31, 2}), "values");
        row("dims product at the limit", valid({1ull << 24, 1ull << 24}), "values");
        row("a dimension of 0", valid({0, 4}), "0 values along dimension 0");
        row("a dimension of 2^63", valid({1ull << 63}), "along dimension");
        row("a dimension of 2^64-1", valid({kHuge}), "along dimension");
        row("no dimensions", valid({}), "0 dimensions");
        row("five dimensions", valid({2, 2, 2, 2, 2}), "5 dimensions");
        row("unknown type", valid({8, 4}, 4), "type number 4");
        row("type 2^32-1", valid({8, 4}, ~0u), "type number 4294967295");
        row("row not of whole blocks", valid({24, 1}, 2), "multiple of 32");
        row("lattice row not of whole blocks", valid({128, 1}, 21), "multiple of 256");
        row("lattice longer than the file", valid({256, 3}, 29), "needs 168 bytes");
        row("lattice of 2^40 values", valid({256, 1ull << 32}, 19), "of the data, which has");
        row("offset unaligned", valid({8, 4}, 0, 4), "alignment 32");
        row("offset past the end", valid({8, 4}, 0, 32), "needs 128 bytes");
        row("offset 2^64-32", valid({8, 4}, 0, kHuge - 31), "offset 18446744073709551584");
        row("data longer than the file", valid({8, 8}), "needs 256 bytes");
        row("overlap", twoTensors(96), "overlap");
        row("same place", twoTensors(0), "overlap");
        row("same name", twoTensors(128, "a"), "two tensors named");
        row("empty name", twoTensors(128, ""), "is empty");
        row("name of 256 bytes", twoTensors(128, std::string(256, 'n')), "at most 255");
        row("name not UTF-8", twoTensors(128, "\xc3("), "UTF-8");
        row("alignment 0", withAlignment(0), "power of two");
        row("alignment 3", withAlignment(3), "power of two");
        row("alignment 4", withAlignment(4), "power of two");
        row("alignment 48", withAlignment(48), "power of two");
        row("alignment 2^31", withAlignment(1u << 31), "power of two");
        row("alignment of type u64", withEntry("general.alignment", 10).put(uint64_t(32)),
            "32-bit unsigned");
        row("alignment of type string", withEntry("general.alignment", 8).text("32"),
            "32-bit unsigned");
        row("empty key", withEntry("", 4).put(1u), "is empty");
        row("key not UTF-8", withEntry("\xff", 4).put(1u), "UTF-8");
        row("key of 2^64-1 bytes", GgufBytes(0, 1).put(kHuge).data(64), "at most");
        row("string of 2^64-1 bytes", withEntry("s", 8).put(kHuge).data(64), "at most");
        row("string past the end", withEntry("s", 8).put(uint64_t(65)).data(64), "ends at byte");
        row("unknown value type", withEntry("v", 13).data(64), "unknown value type 13");
        row("boolean of 2", withEntry("v", 7).put(uint8_t(2)), "boolean");
        row("nested arrays", withEntry("v", 9).put(9u).put(uint64_t(1)).data(64),
            "array of arrays");
        row("array of unknown type", withEntry("v", 9).put(77u).put(uint64_t(1)).data(64),
            "unknown type 77");
        row("array of 2^64-1", withEntry("v", 9).put(4u).put(kHuge).data(64), "array elements");
        row("array of 2^62 u32", withEntry("v", 9).put(4u).put(1ull << 62).data(64),
            "array elements");
        row("array of doubles past the end", withEntry("v", 9).put(12u).put(uint64_t(9)).data(64),
            "cannot fit");
        row("array past the end", withEntry("v", 9).put(4u).put(uint64_t(17)).data(64),
            "cannot fit");
        row("array of strings past the end", withEntry("v", 9).put(8u).put(uint64_t(9)).data(64),
            "cannot fit");
        row("array of huge u64", withEntry("v", 9).put(10u).put(uint64_t(1)).put(kHuge),
            "in arrays");
        row("key twice", GgufBytes(0, 2).entry("k", 1).entry("k", 2), "occurs twice");
    }
    void attacksAreNamed() {
        QFETCH(std::string, bytes);
        QFETCH(QString, says);
        const QString sentence = QString::fromStdString(refusal(bytes));
        QVERIFY2(sentence.contains(says) && sentence != "opened", qPrintable(sentence));
    }

    void otherFilesAreNamed_data() {
        QTest::addColumn<std::string>("bytes");
        QTest::addColumn<QString>("says");
        QTest::newRow("empty") << std::string() << "empty";
        QTest::newRow("four bytes") << std::string("GGUF") << "ends at byte 4";
        QTest::newRow("pointer") << std::string("version https://git-lfs.github.com/spec/v1\noid")
                                 << "git lfs pull";
        QTest::newRow("web page") << std::string("<!DOCTYPE html><html>") << "web page";
        QTest::newRow("old ggml") << std::string("tjgg\1\0\0\0", 8) << "before GGUF";
        QTest::newRow("zip") << std::string("PK\x03\x04....") << "zip";
        QTest::newRow("pickle") << std::string("\x80\x02}q") << "execute code";
        QTest::newRow("text") << std::string("hello, world\n") << "a text";
        QTest::newRow("noise") << std::string("\x01\x02\x03\x04\x05") << "unknown kind";
    }
    void otherFilesAreNamed() {
        QFETCH(std::string, bytes);
        QFETCH(QString, says);
        const QString sentence = QString::fromStdString(refusal(bytes));
        QVERIFY2(sentence.contains(says), qPrintable(sentence));
    }
    void picklesAreNeverOpened() {
        for (const char* name : {"m.bin", "m.pt", "m.pth", "m.ckpt"}) {
            try {
                openCheckpoint(write("anything", name));
                QFAIL(name);
            } catch (const Error& e) {
                QVERIFY2(std::string_view(e.what()).find("execute code") != std::string_view::npos,
                         e.what());
            }
        }
    }
    void namesAreSafeToShow() {
        const std::string sentence = refusal(twoTensors(96, "a\xe2\x80\xae\x1b[31m").bytes());
        QVERIFY(sentence.find('\x1b') == std::string::npos);
        QVERIFY(sentence.find("\xe2\x80\xae") == std::string::npos);
    }
};

QTEST_GUILESS_MAIN(TestGgufHostile)
#include "test_gguf_hostile.moc"
