#include "core/base/error.h"
#include "core/base/random.h"
#include "core/files/checkpoint.h"
#include "tests/files/gguf_bytes.h"
#include "tests/support/shared_data.h"

#include <QElapsedTimer>
#include <QTemporaryDir>
#include <QTest>
#include <fstream>
#include <sstream>

using namespace nibble;
using nibble::test::GgufBytes;

namespace {

std::string readAll(const std::filesystem::path& path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

/// Every tensor through planes and back.
void rewrite(const Checkpoint& from, const std::filesystem::path& to) {
    std::vector<GgufTensor> tensors;
    for (const TensorInfo& info : from.tensors)
        tensors.push_back({info.name, info.dims, info.type, info.bytes.size()});
    writeGguf(to, from.metadata, tensors, [&](size_t i) {
        // What no planes describe stays as it is stored, as exports keep it.
        const TensorInfo& info = from.tensors[i];
        const bool hasPlanes = info.format() && !info.type->decode;
        return hasPlanes ? toStoredBytes(loadTensor(info), *info.type) : info.bytes;
    });
}

} // namespace

class TestGguf : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    std::filesystem::path at(const char* name) {
        return std::filesystem::path(m_folder.path().toStdString()) / name;
    }
    std::filesystem::path write(const std::string& bytes, const char* name) {
        std::ofstream(at(name), std::ios::binary) << bytes;
        return at(name);
    }

    void writeShard(int number, int tensors, const char* tensor, const char* name) {
        GgufBytes file(1, number == 1 ? 4 : 2);
        if (number == 1)
            file.key("general.name", 8)
                .text("split")
                .entry("split.tensors.count", static_cast<uint32_t>(tensors));
        file.key("split.count", 2)
            .put(uint16_t(2))
            .key("split.no", 2)
            .put(static_cast<uint16_t>(number - 1));
        write(file.tensor(tensor, {8}, 0, 0).pad().data(32).bytes(), name);
    }

private slots:
    void everyValueTypeComesBack() {
        GgufBytes file(2, 18);
        file.key("a.u8", 0)
            .put(uint8_t(200))
            .key("b.i8", 1)
            .put(int8_t(-5))
            .key("c.u16", 2)
            .put(uint16_t(60000));
        file.key("d.i16", 3)
            .put(int16_t(-30000))
            .key("e.u32", 4)
            .put(4000000000u)
            .key("f.i32", 5)
            .put(-2000000000);
        file.key("g.f32", 6)
            .put(0.1f)
            .key("h.bool", 7)
            .put(uint8_t(1))
            .key("i.text", 8)
            .text("grüß\ndich");
        file.key("j.u64", 10)
            .put(~0ull)
            .key("k.i64", 11)
            .put(int64_t(-7))
            .key("l.f64", 12)
            .put(0.1);
        file.key("m.strings", 9).put(8u).put(uint64_t(2)).text("").text("two");
        file.key("n.floats", 9).put(6u).put(uint64_t(2)).put(0.5f).put(-1e30f);
        file.key("o.u8s", 9)
            .put(0u)
            .put(uint64_t(3))
            .put(uint8_t(1))
            .put(uint8_t(2))
            .put(uint8_t(255));
        file.key("p.bools", 9).put(7u).put(uint64_t(2)).put(uint8_t(1)).put(uint8_t(0));
        file.key("q.none", 9).put(5u).put(uint64_t(0));
        file.key("r.doubles", 9).put(12u).put(uint64_t(2)).put(0.1).put(-1e300);
        file.tensor("w", {32, 3, 2}, 2, 0)
            .tensor("v", {5}, 0, 128)
            .pad()
            .data(108)
            .pad()
            .data(20)
            .pad();
        const auto checkpoint = openCheckpoint(write(file.bytes(), "values.gguf"));
        const Metadata& m = checkpoint->metadata;
        QCOMPARE(m.getInteger("a.u8"), 200);
        QCOMPARE(m.getInteger("b.i8"), -5);
        QCOMPARE(m.getInteger("c.u16"), 60000);
        QCOMPARE(m.getInteger("d.i16"), -30000);
        QCOMPARE(m.getInteger("e.u32"), 4000000000);
        QCOMPARE(m.getInteger("f.i32"), -2000000000);
        QCOMPARE(m.floatOr("g.f32", 0), double(0.1f));
        QVERIFY(m.booleanOr("h.bool", false));
        QCOMPARE(m.stringOr("i.text", ""), std::string("grüß\ndich"));
        QCOMPARE(std::get<uint64_t>(m.find("j.u64")->value), ~0ull);
        QCOMPARE(m.floatOr("l.f64", 0), 0.1);
        QCOMPARE(m.findStrings("m.strings")->at(1), std::string("two"));
        QCOMPARE(m.findFloats("n.floats")->at(1), -1e30f);
        QCOMPARE(m.findIntegers("o.u8s")->at(2), 255);
        QVERIFY(m.findIntegers("q.none")->empty());
        QCOMPARE(*m.findDoubles("r.doubles"), (std::vector<double>{0.1, -1e300}));
        QVERIFY(m.findFloats("r.doubles") == nullptr);
        QCOMPARE(describe(*m.find("r.doubles")), std::string("[2 floats]"));
        QCOMPARE(m.integerOr("i.text", 3), 3);
        QVERIFY_EXCEPTION_THROWN(m.getInteger("i.text"), Error);
        QVERIFY_EXCEPTION_THROWN(m.getInteger("absent"), Error);
        QCOMPARE(describe(*m.find("m.strings")), std::string("[2 strings]"));

        const TensorInfo& w = checkpoint->get("w");
        QCOMPARE(w.dims, (std::vector<int64_t>{2, 3, 32}));
        QCOMPARE(w.experts(), 2);
        QCOMPARE(w.rows(), 6);
        QCOMPARE(loadTensor(w).experts, 2);
        QVERIFY_EXCEPTION_THROWN(checkpoint->get("x"), Error);
        QVERIFY(checkpoint->find("x") == nullptr);

        rewrite(*checkpoint, at("again.gguf"));
        QVERIFY(readAll(at("again.gguf")) ==
                file.bytes()); // keys were sorted, so nothing may differ
    }

    void valuesWithoutATypeGetOne() {
        Metadata metadata;
        metadata.entries["a"].value = int64_t(7);
        metadata.entries["b"].value = int64_t(-7);
        metadata.entries["c"].value = int64_t(1) << 40;
        metadata.entries["d"].value = 0.5;
        metadata.entries["e"].value = MetadataValue::Integers{1, 2};
        metadata.entries["f"] = {int64_t(300), 0}; // does not fit the u8 that it came as
        writeGguf(at("typed.gguf"), metadata, {}, nullptr);
        const auto back = openCheckpoint(at("typed.gguf"));
        const auto stored = [&](const char* key) { return back->metadata.find(key)->storedType; };
        QCOMPARE(stored("a"), 4u);
        QCOMPARE(stored("b"), 5u);
        QCOMPARE(stored("c"), 11u);
        QCOMPARE(stored("d"), 6u);
        QCOMPARE(back->metadata.find("e")->storedElementType, 5u);
        QCOMPARE(stored("f"), 4u);
        QCOMPARE(back->metadata.getInteger("f"), 300);
    }

    void realModelsSurvive_data() {
        QTest::addColumn<QString>("file");
        QTest::newRow("f32") << "models/stories260K-f32.gguf";
        QTest::newRow("q8_0") << "models/TinyStories-656K/TinyStories-656K-Q8_0.gguf";
    }
    void realModelsSurvive() {
        QFETCH(QString, file);
        NIBBLE_NEED_SHARED(qPrintable(file));
        const auto original = openCheckpoint(test::sharedPath(qPrintable(file)));
        rewrite(*original, at("first.gguf"));
        const auto first = openCheckpoint(at("first.gguf"));
        QCOMPARE(first->tensors.size(), original->tensors.size());
        QVERIFY(!first->tensors.empty());
        for (const TensorInfo& info : original->tensors) {
            const TensorInfo& copy = first->get(info.name);
            QCOMPARE(copy.dims, info.dims);
            QCOMPARE(copy.type, info.type);
            QVERIFY(std::ranges::equal(copy.bytes.view(), info.bytes.view()));
        }
        QCOMPARE(first->metadata.entries.size(), original->metadata.entries.size());
        for (const auto& [key, value] : original->metadata.entries) {
            QVERIFY(first->metadata.find(key)->value == value.value);
            QCOMPARE(first->metadata.find(key)->storedType, value.storedType);
        }
        rewrite(*first, at("second.gguf"));
        QVERIFY(readAll(at("first.gguf")) == readAll(at("second.gguf")));
    }

    void filesOfEveryTypeAreWrittenUnchanged() {
        // Random blocks of every type that a GGUF file has, two tensors each.
        std::vector<GgufTensor> tensors;
        std::vector<std::vector<std::byte>> blocks;
        Random random(23);
        for (const BlockType& type : blockTypes()) {
            if (type.ggufType < 0)
                continue;
            for (const int64_t rows : {1, 5}) {
                const int64_t cols = type.blockValues == 1 ? 37 : int64_t(type.blockValues) * 3;
                std::vector<std::byte> bytes(
                    static_cast<size_t>(rows * cols / type.blockValues * type.blockBytes));
                for (std::byte& byte : bytes) // ternary blocks of five trits a byte have aliases
                    byte = std::string_view(type.name) == "tq1_0"
                               ? std::byte(0)
                               : static_cast<std::byte>(random.next() >> 7);
                tensors.push_back(
                    {type.name + std::to_string(rows), {rows, cols}, &type, bytes.size()});
                blocks.push_back(std::move(bytes));
            }
        }
        QVERIFY(tensors.size() >= 60);
        Metadata metadata;
        metadata.entries["general.architecture"].value = std::string("none");
        metadata.entries["general.alignment"].value = int64_t(64);
        writeGguf(at("all.gguf"), metadata, tensors,
                  [&](size_t i) { return Bytes::of(blocks[i]); });
        const auto opened = openCheckpoint(at("all.gguf"));
        for (size_t i = 0; i < tensors.size(); ++i)
            QVERIFY(std::ranges::equal(opened->get(tensors[i].name).bytes.view(), blocks[i]));
        rewrite(*opened, at("again.gguf"));
        QVERIFY(readAll(at("all.gguf")) == readAll(at("again.gguf")));
    }
    void shardsAreOneCheckpoint() {
        writeShard(1, 2, "a", "m-00001-of-00002.gguf");
        writeShard(2, 2, "b", "m-00002-of-00002.gguf");
        for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
            const auto checkpoint = openCheckpoint(at(name));
            QCOMPARE(checkpoint->tensors.size(), size_t(2));
            QCOMPARE(checkpoint->metadata.stringOr("general.name", ""), std::string("split"));
            QVERIFY(checkpoint->find("a") && checkpoint->find("b"));
        }
        const auto whole = openCheckpoint(at("m-00001-of-00002.gguf"));
        rewrite(*whole, at("joined.gguf"));
        QCOMPARE(openCheckpoint(at("joined.gguf"))->tensors.size(), size_t(2));
    }
    void wrongShardsAreRefused_data() {
        QTest::addColumn<int>("total");
        QTest::addColumn<QString>("secondTensor");
        QTest::addColumn<int>("secondNumber");
        QTest::newRow("same tensor twice") << 2 << "a" << 2;
        QTest::newRow("total differs") << 3 << "b" << 2;
        QTest::newRow("renamed part") << 2 << "b" << 1;
    }
    void wrongShardsAreRefused() {
        QFETCH(int, total);
        QFETCH(QString, secondTensor);
        QFETCH(int, secondNumber);
        writeShard(1, total, "a", "w-00001-of-00002.gguf");
        writeShard(secondNumber, total, qPrintable(secondTensor), "w-00002-of-00002.gguf");
        QVERIFY_EXCEPTION_THROWN(openCheckpoint(at("w-00001-of-00002.gguf")), Error);
    }
    void missingShardIsNamed() {
        writeShard(1, 2, "a", "lone-00001-of-00002.gguf");
        try {
            openCheckpoint(at("lone-00001-of-00002.gguf"));
            QFAIL("opened");
        } catch (const Error& e) {
            QVERIFY2(std::string_view(e.what()).find("lone-00002-of-00002.gguf") !=
                         std::string_view::npos,
                     e.what());
        }
    }

    void aLargeSparseFileOpensAtOnce() {
        constexpr uint64_t rows = 1 << 16, cols = 1 << 13; // 2 GiB of f32
        GgufBytes file(2, 0);
        file.tensor("big", {cols, rows}, 0, 0).tensor("last", {8}, 0, rows * cols * 4).pad();
        const auto path = write(file.bytes(), "sparse.gguf");
        const uint64_t end = file.bytes().size() + rows * cols * 4;
        std::filesystem::resize_file(path, end + 32);
        {
            std::fstream tail(path, std::ios::in | std::ios::out | std::ios::binary);
            tail.seekp(static_cast<std::streamoff>(end));
            const float marker = 42;
            tail.write(reinterpret_cast<const char*>(&marker), 4);
        }
        QElapsedTimer timer;
        timer.start();
        const auto checkpoint = openCheckpoint(path);
        const qint64 elapsed = timer.nsecsElapsed();
        qInfo("2 GiB opened in %.2f ms", double(elapsed) * 1e-6);
        QVERIFY(elapsed < 1'000'000'000);
        QCOMPARE(checkpoint->fileBytes, end + 32);
        QCOMPARE(decode(loadTensor(checkpoint->get("last")))[0], 42.0f);
    }
};

QTEST_GUILESS_MAIN(TestGguf)
#include "test_gguf.moc"
