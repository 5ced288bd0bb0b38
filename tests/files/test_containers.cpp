#include "core/base/error.h"
#include "core/base/random.h"
#include "core/files/checkpoint.h"
#include "tests/files/gguf_bytes.h"
#include "tests/support/sparse_file.h"

#include <QTemporaryDir>
#include <QTest>
#include <cmath>
#include <fstream>

using namespace nibble;
using nibble::test::GgufBytes;
using nibble::test::SparseFile;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kColumns = 1 << 13;
constexpr uint64_t kBigRows = 65'600; ///< of f32: 2.15 GB
constexpr uint64_t kBigBytes = kBigRows * kColumns * 4;
constexpr float kFar = -3.5f;

/// One of three parts; the first holds metadata alone, as splitters can be told to.
std::string shard(int number, int total = 2, const char* architecture = "llama") {
    GgufBytes file(number == 1 ? 0 : 1, 4);
    file.key("general.architecture", 8).text(architecture);
    file.key("split.count", 2).put(uint16_t(3));
    file.key("split.no", 2).put(static_cast<uint16_t>(number - 1));
    file.key("split.tensors.count", 5).put(total);
    if (number > 1)
        file.tensor(number == 2 ? "a" : "b", {8}, 0, 0).pad().data(32, static_cast<char>(number));
    return file.bytes();
}

} // namespace

/// Models in several files, and files and tensors beyond what 31 and 32 bits count.
class TestContainers : public QObject {
    Q_OBJECT
    QTemporaryDir m_root;
    int m_count = 0;

    fs::path folder() {
        const auto path = fs::path(m_root.path().toStdString()) / std::to_string(m_count++);
        fs::create_directory(path);
        return path;
    }
    static void write(const fs::path& path, const std::string& bytes) {
        std::ofstream(path, std::ios::binary) << bytes;
    }
    static fs::path part(const fs::path& folder, int number) {
        return folder / ("m-0000" + std::to_string(number) + "-of-00003.gguf");
    }
    fs::path threeParts() {
        const fs::path path = folder();
        for (int number = 1; number <= 3; ++number)
            write(part(path, number), shard(number));
        return path;
    }
    static std::string refusal(const fs::path& path) {
        try {
            openCheckpoint(path);
            return "opened";
        } catch (const Error& e) {
            return e.kind() == ErrorKind::BadInput ? e.what()
                                                   : std::string("wrong kind: ") + e.what();
        }
    }
    void refuses(const fs::path& path, std::initializer_list<const char*> says) {
        const std::string sentence = refusal(path);
        for (const char* words : says)
            QVERIFY2(sentence != "opened" && sentence.find(words) != std::string::npos,
                     sentence.c_str());
    }

    /// What is true of a big file in either container; `file` holds "big", "gap" and "far", and
    /// `farAt` is where the last begins.
    static void checkBig(const fs::path& path, uint64_t farAt) {
        QVERIFY(farAt > uint64_t(1) << 32);
        const auto checkpoint = openCheckpoint(path);
        QVERIFY(checkpoint->fileBytes > uint64_t(1) << 32);
        const Tensor far = loadTensor(checkpoint->get("far"));
        QCOMPARE(decode(far), (std::vector<float>{1, 2, 3, kFar}));
        const TensorInfo& big = checkpoint->get("big");
        QVERIFY(big.bytes.size() > uint64_t(1) << 31);
        QVERIFY(nibble::test::forgetPeak());
        const uint64_t before = nibble::test::peakBytes();
        const TensorStatistics s = computeStatistics(storedRows(big));
        const uint64_t more = nibble::test::peakBytes() - before;
        QCOMPARE(s.count, int64_t(kBigRows * kColumns));
        QCOMPARE(s.min, kFar);
        QCOMPARE(s.max, 0.0f);
        QCOMPARE(s.outliers.size(), size_t(1));
        QCOMPARE(s.outliers[0].row, int64_t(kBigRows - 1));
        QCOMPARE(s.outliers[0].col, int64_t(kColumns - 1));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        qInfo("Sanitizers keep memory that was given back: %llu bytes are not judged.",
              static_cast<unsigned long long>(more));
#else
        QVERIFY2(more < uint64_t(64) << 20, qPrintable(QString::number(more)));
#endif
    }

private slots:
    /// Qt does not remove names that are no UTF-8.
    void cleanupTestCase() {
        fs::remove_all(m_root.path().toStdString());
    }

    void anyPartOpensTheWhole() {
        const fs::path path = threeParts();
        for (int number = 1; number <= 3; ++number) {
            const auto checkpoint = openCheckpoint(part(path, number));
            QCOMPARE(checkpoint->tensors.size(), size_t(2));
            QCOMPARE(checkpoint->path, part(path, 1));
            QCOMPARE(checkpoint->fileBytes, shard(1).size() + shard(2).size() + shard(3).size());
        }
        // As the Hugging Face cache keeps them: links to blobs whose names say nothing.
        const fs::path links = folder();
        for (int number = 1; number <= 3; ++number)
            fs::create_symlink(part(path, number), part(links, number));
        QCOMPARE(openCheckpoint(part(links, 2))->tensors.size(), size_t(2));
    }

    void everyPrefixOfEveryPartIsRefused() {
        const fs::path path = threeParts();
        for (int number = 1; number <= 3; ++number) {
            const std::string whole = shard(number);
            const std::string name = part(path, number).filename().string();
            for (size_t n = 0; n < whole.size(); ++n) {
                write(part(path, number), whole.substr(0, n));
                const std::string sentence = refusal(part(path, 1));
                QVERIFY2(sentence.starts_with(name + ": "), sentence.c_str());
            }
            write(part(path, number), whole);
        }
        QCOMPARE(refusal(part(path, 1)), std::string("opened"));
    }

    void partsThatDoNotBelongAreNamed() {
        const fs::path path = threeParts();
        fs::remove(part(path, 2));
        refuses(part(path, 3),
                {"m-00003-of-00003.gguf", "1 of 3 parts is missing", "m-00002-of-00003.gguf"});
        fs::remove(part(path, 1));
        refuses(part(path, 3), {"2 of 3 parts are missing", "m-00001-of-00003.gguf, m-00002"});
        write(part(path, 1), shard(1));
        write(part(path, 2), shard(2, 7));
        refuses(part(path, 1),
                {"m-00002-of-00003.gguf", "split.tensors.count is 7 here and 2", "another model"});
        write(part(path, 2), shard(2, 2, "qwen2"));
        refuses(part(path, 1), {"general.architecture is \"qwen2\" here and \"llama\""});
        write(part(path, 2), shard(3));
        refuses(part(path, 1), {"says part 3 of 3, its name says part 2 of 3"});
        fs::remove(part(path, 2));
        fs::create_directory(part(path, 2));
        refuses(part(path, 1), {"is a folder, not a file"});
    }

    void aRenamedPartSaysWhatIsMissing() {
        const fs::path path = folder();
        write(path / "model.gguf", shard(2));
        refuses(path / "model.gguf", {"part 2 of 3", "original names"});
    }

    void anIndexOpensItsFolder() {
        const fs::path path = folder();
        const fs::path index = path / "model.safetensors.index.json";
        write(path / "config.json", "{}");
        write(index, "<html>");
        refuses(index, {"model.safetensors.index.json", "not valid JSON"});
        refuses(path, {"model.safetensors.index.json", "not valid JSON"});
        const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
        const uint64_t length = header.size();
        write(path / "one.safetensors",
              std::string(reinterpret_cast<const char*>(&length), 8) + header + "x");
        write(path / "surplus.safetensors", "not even looked at");
        write(index, R"({"weight_map":{"a":"one.safetensors"}})");
        QCOMPARE(openCheckpoint(index)->tensors.size(), size_t(1));
    }

    void pathsOfAnyBytesAreShownSafely() {
        const fs::path odd = folder() / "two\nlines\xff\x1b[31m.gguf";
        write(odd, "neither");
        const std::string sentence = refusal(odd);
        QVERIFY2(sentence.find('\n') == std::string::npos &&
                     sentence.find('\x1b') == std::string::npos && sentence.size() > 30,
                 sentence.c_str());
        write(odd, shard(2));
        QVERIFY(refusal(odd).find('\n') == std::string::npos);
    }

    void aGgufFileBeyond4GbOpensAndIsRead() {
        GgufBytes file(3, 0);
        file.tensor("big", {kColumns, kBigRows}, 0, 0)
            .tensor("gap", {kColumns, kBigRows}, 0, kBigBytes)
            .tensor("far", {4}, 0, 2 * kBigBytes)
            .pad();
        const uint64_t start = file.bytes().size(), end = start + 2 * kBigBytes;
        const fs::path path = folder() / "big.gguf";
        SparseFile sparse(path, file.bytes(), end + 32);
        const float values[4] = {1, 2, 3, kFar};
        sparse.put(end, values, sizeof values);
        sparse.put(start + kBigBytes - 4, &kFar, 4);
        if (!sparse.holds())
            QSKIP("This file system keeps no sparse files of 4.6 GB.");
        checkBig(path, end);
        // One byte short: refused by size, before anything is read.
        fs::resize_file(path, end + 15);
        refuses(path, {"\"far\" needs 16 bytes from offset 4299161600"});
    }

    void aSafetensorsFileBeyond4GbOpensAndIsRead() {
        const auto entry = [](const char* name, const std::string& shape, uint64_t begin,
                              uint64_t end) {
            return std::string("\"") + name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape +
                   "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) +
                   "]}";
        };
        const std::string shape = std::to_string(kBigRows) + "," + std::to_string(kColumns);
        std::string header = "{" + entry("big", shape, 0, kBigBytes) + "," +
                             entry("gap", shape, kBigBytes, 2 * kBigBytes) + "," +
                             entry("far", "4", 2 * kBigBytes, 2 * kBigBytes + 16) + "}";
        const uint64_t length = header.size();
        header.insert(0, reinterpret_cast<const char*>(&length), 8);
        const uint64_t start = header.size(), end = start + 2 * kBigBytes;
        const fs::path path = folder();
        write(path / "config.json", "{}");
        SparseFile sparse(path / "model.safetensors", header, end + 16);
        const float values[4] = {1, 2, 3, kFar};
        sparse.put(end, values, sizeof values);
        sparse.put(start + kBigBytes - 4, &kFar, 4);
        if (!sparse.holds())
            QSKIP("This file system keeps no sparse files of 4.6 GB.");
        checkBig(path, end);
    }

    /// Rows read a few at a time are the tensor's, for every type that can be read.
    void storedRowsAreTheTensors() {
        Random random(7);
        int types = 0;
        for (const BlockType& type : blockTypes()) {
            if (!type.format || type.ggufType < 0)
                continue;
            ++types;
            const int64_t rows = 5, cols = int64_t(type.blockValues) * 3;
            std::vector<std::byte> bytes(
                static_cast<size_t>(rows * cols / type.blockValues * type.blockBytes));
            for (std::byte& byte : bytes)
                byte = static_cast<std::byte>(random.next() >> 7);
            TensorInfo info;
            info.name = type.name;
            info.type = &type;
            info.dims = {rows, cols};
            info.bytes = Bytes::of(std::move(bytes));
            const std::vector<float> whole = decode(loadTensor(info));
            const RowSource source = storedRows(info);
            QCOMPARE(source.rows, rows);
            std::vector<float> some(static_cast<size_t>(2 * cols));
            source.decode(3, 5, some.data());
            QVERIFY2(std::memcmp(some.data(), whole.data() + 3 * cols, some.size() * 4) == 0,
                     type.name);
        }
        QVERIFY(types > 25);
    }
};

QTEST_GUILESS_MAIN(TestContainers)
#include "test_containers.moc"
