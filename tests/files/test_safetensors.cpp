#include "core/base/error.h"
#include "core/files/checkpoint.h"
#include "core/files/names.h"
#include "tests/support/shared_data.h"

#include <QTemporaryDir>
#include <QTest>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace nibble;
namespace fs = std::filesystem;

namespace {

std::string safetensors(const std::string& header, size_t dataBytes) {
    const uint64_t length = header.size();
    std::string file(reinterpret_cast<const char*>(&length), 8);
    file += header;
    for (size_t i = 0; i < dataBytes; ++i)
        file += static_cast<char>(i % 64); // f32 and f16 of these bytes are small and finite
    return file;
}

std::string entry(const char* name, const char* dtype, const char* shape, size_t begin,
                  size_t end) {
    return std::string("\"") + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

const std::string kValid =
    safetensors("{\"__metadata__\":{\"format\":\"pt\"}," + entry("b", "F16", "[2,3]", 16, 28) +
                    "," + entry("a", "F32", "[4]", 0, 16) + "}  ",
                28);

} // namespace

class TestSafetensors : public QObject {
    Q_OBJECT
    QTemporaryDir m_root;
    int m_count = 0;

    /// A fresh folder.
    fs::path folder() {
        const auto path = fs::path(m_root.path().toStdString()) / std::to_string(m_count++);
        fs::create_directory(path);
        return path;
    }
    static void write(const fs::path& path, const std::string& bytes) {
        std::ofstream(path, std::ios::binary) << bytes;
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
    void refuses(const fs::path& path, const char* says) {
        const std::string sentence = refusal(path);
        QVERIFY2(sentence != "opened" && sentence.find(says) != std::string::npos,
                 sentence.c_str());
    }

private slots:
    void aFolderOpens() {
        const fs::path path = folder();
        write(path / "model.safetensors", kValid);
        write(
            path / "config.json",
            R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"rms_norm_eps":1e-5,"big":18446744073709551615,
                  "rope_scaling":{"factor":8.0,"rope_type":"llama3"},"tie":true,"pad":null,"none":[],
                  "eos_token_id":[1,2],"mixed":[1,2.5],"flags":[true],"layers":[{"k":1},{"k":2}]})");
        write(path / "tokenizer.json", "{}");
        const auto checkpoint = openCheckpoint(path);
        const Metadata& m = checkpoint->metadata;
        QCOMPARE(checkpoint->container, Checkpoint::Container::Safetensors);
        QCOMPARE(checkpoint->tokenizerFile, path / "tokenizer.json");
        QCOMPARE(m.findStrings("architectures")->at(0), std::string("LlamaForCausalLM"));
        QCOMPARE(m.getInteger("hidden_size"), 64);
        QCOMPARE(m.floatOr("rms_norm_eps", 0), 1e-5);
        QCOMPARE(m.floatOr("rope_scaling.factor", 0), 8.0);
        QCOMPARE(m.integerOr("rope_scaling.factor", 0), 8);
        QCOMPARE(m.stringOr("rope_scaling.rope_type", ""), std::string("llama3"));
        QVERIFY(m.booleanOr("tie", false));
        QVERIFY(!m.has("pad") && !m.has("none"));
        QCOMPARE(*m.findIntegers("eos_token_id"), (std::vector<int64_t>{1, 2}));
        QCOMPARE(m.findFloats("mixed")->at(1), 2.5f);
        QCOMPARE(m.getInteger("layers.1.k"), 2);
        QCOMPARE(std::get<uint64_t>(m.find("big")->value), ~0ull);

        const TensorInfo& b = checkpoint->get("b");
        QCOMPARE(b.dims, (std::vector<int64_t>{2, 3}));
        const Tensor tensor = loadTensor(b);
        QCOMPARE(tensor.rows, 2);
        QCOMPARE(tensor.cols, 3);
        QCOMPARE(tensor.format, &getFormat("f16"));
        uint16_t first;
        std::memcpy(&first, kValid.data() + kValid.size() - 12, 2);
        QCOMPARE(tensor.codes.as<uint16_t>()[0], first);
    }
    void unalignedDataLoads() {
        const fs::path path = folder();
        const std::string header = "{" + entry("a", "F32", "[2]", 0, 8) + "}";
        for (int pad = 0; pad < 4; ++pad) {
            const std::string file =
                safetensors(header + std::string(static_cast<size_t>(pad), ' '), 8);
            write(path / "one.safetensors", file);
            const Tensor tensor = loadTensor(openCheckpoint(path / "one.safetensors")->get("a"));
            QCOMPARE(reinterpret_cast<uintptr_t>(tensor.codes.data()) % 4, uintptr_t(0));
            QVERIFY(std::memcmp(tensor.codes.data(), file.data() + file.size() - 8, 8) == 0);
        }
    }
    void realFolderOpens() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/config.json");
        const auto checkpoint = openCheckpoint(test::sharedPath("models/TinyStories-656K"));
        QCOMPARE(checkpoint->metadata.getInteger("hidden_size"), 128);
        QVERIFY(!checkpoint->tokenizerFile.empty());
        const Tensor tensor = loadTensor(checkpoint->get("lm_head.weight"));
        QCOMPARE(tensor.cols, 128);
        // The two are tied: the file stores one and names the other.
        QCOMPARE(checkpoint->find("model.embed_tokens.weight"), checkpoint->find("lm_head.weight"));
        QCOMPARE(decode(tensor).size(), size_t(2048 * 128));
    }

    void everyPrefixIsRefused() {
        const fs::path path = folder() / "m.safetensors";
        for (size_t n = 0; n < kValid.size(); ++n) {
            write(path, kValid.substr(0, n));
            const std::string sentence = refusal(path);
            QVERIFY2(sentence.starts_with("m.safetensors: "), sentence.c_str());
        }
        write(path, kValid);
        QCOMPARE(refusal(path), std::string("opened"));
        write(path, kValid + "x");
        refuses(path, "cover");
    }

    void attacksAreNamed_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QString>("says");
        const auto row = [](const char* name, const std::string& header, size_t data,
                            const char* says) {
            QTest::newRow(name) << QByteArray::fromStdString(safetensors(header, data))
                                << QString(says);
        };
        const auto one = [](const std::string& e) { return "{" + e + "}"; };
        std::string huge = safetensors("{}", 0);
        huge.replace(0, 8, 8, '\xff');
        QTest::newRow("header of 2^64-1") << QByteArray::fromStdString(huge) << "at most 100000000";
        row("starts with a space", " {}", 0, "start with");
        row("not JSON", "{\"a\":", 0, "not valid JSON");
        row("text after the object", "{}x", 0, "not valid JSON");
        row("an array", "{\"a\":[1]}", 0, "array");
        row("a deep nest", "{\"a\":" + std::string(100000, '['), 0, "array");
        row("objects in objects", "{\"a\":{\"dtype\":{\"x\":1}}}", 0, "object");
        row("same tensor twice",
            one(entry("a", "U8", "[1]", 0, 1) + "," + entry("a", "U8", "[1]", 1, 2)), 2, "twice");
        row("same field twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "twice");
        row("same metadata key twice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "twice");
        row("metadata not text", R"({"__metadata__":{"k":1}})", 0, "number");
        row("unknown field", "{\"a\":{\"code\":\"U8\"}}", 0, "unknown field");
        row("missing field", "{\"a\":{\"dtype\":\"U8\"}}", 0, "lacks");
        row("unknown dtype", one(entry("a", "U7", "[1]", 0, 1)), 1, "U7");
        row("negative size", one(entry("a", "U8", "[-1]", 0, 1)), 1, "negative");
        row("fraction", one(entry("a", "U8", "[1.5]", 0, 1)), 1, "fraction");
        row("number beyond double", one(entry("a", "U8", "[1e999]", 0, 1)), 1, "not valid JSON");
        row("size wraps", one(entry("a", "F32", "[4294967296,4294967296,4]", 0, 0)), 0, "values");
        row("size of 2^64-1", one(entry("a", "U8", "[18446744073709551615]", 0, 0)), 0, "large");
        row("size wraps past zero", one(entry("a", "U8", "[0,18446744073709551615]", 0, 0)), 0,
            "large");
        row("too few bytes", one(entry("a", "F32", "[4]", 0, 8)), 8, "shape and dtype need 16");
        row("end before begin", one(entry("a", "U8", "[1]", 1, 0)), 1, "claims bytes");
        row("past the end", one(entry("a", "U8", "[9]", 0, 9)), 8, "claims bytes");
        row("a hole", one(entry("a", "U8", "[1]", 0, 1) + "," + entry("b", "U8", "[1]", 2, 3)), 3,
            "a hole");
        row("a hole first", one(entry("a", "U8", "[1]", 1, 2)), 2, "a hole");
        row("an overlap", one(entry("a", "U8", "[2]", 0, 2) + "," + entry("b", "U8", "[2]", 1, 3)),
            3, "an overlap");
        row("bytes behind", one(entry("a", "U8", "[1]", 0, 1)), 2, "cover 1 bytes");
        row("three offsets", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1,
            "3 data_offsets");
        row("nine dimensions", one(entry("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1)), 1,
            "more than 8");
        row("empty name", one(entry("", "U8", "[1]", 0, 1)), 1, "name of tensor");
        row("long name", one(entry(std::string(256, 'n').c_str(), "U8", "[1]", 0, 1)), 1,
            "256 bytes");
    }
    void attacksAreNamed() {
        QFETCH(QByteArray, bytes);
        QFETCH(QString, says);
        const fs::path path = folder() / "m.safetensors";
        write(path, bytes.toStdString());
        refuses(path, qPrintable(says));
    }

    void shardsAreOneCheckpoint() {
        const fs::path path = folder();
        const auto shard = [](const char* name) {
            return safetensors("{" + entry(name, "F32", "[4]", 0, 16) + "}", 16);
        };
        write(path / "config.json", "{}");
        write(path / "model-00001-of-00002.safetensors", shard("a"));
        write(path / "model-00002-of-00002.safetensors", shard("b"));
        const fs::path index = path / "model.safetensors.index.json";
        refuses(path, "how they belong together");
        write(
            index,
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})");
        QCOMPARE(openCheckpoint(path)->tensors.size(), size_t(2));
        QCOMPARE(openCheckpoint(path / "model-00002-of-00002.safetensors")->tensors.size(),
                 size_t(2));
        write(
            index,
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors"}})");
        refuses(path, "\"b\" is not in");
        write(index, R"({"weight_map":{"a":"model-00003-of-00002.safetensors"}})");
        refuses(path, "is missing in the folder");
        for (const char* name :
             {"../x.safetensors", "/etc/passwd", "a\\\\b", "..", "", "C:x", "x\\u0000"}) {
            write(index, std::string(R"({"weight_map":{"a":")") + name + "\"}}");
            refuses(path, "plain file name");
        }
        write(index, R"({"weight_map":{"a":1}})");
        refuses(path, "plain file name");
        write(index, R"({"weight_map":[]})");
        refuses(path, "weight_map");
        write(path / "model-00002-of-00002.safetensors", shard("a"));
        write(
            index,
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})");
        refuses(path, "two tensors named");
    }

    void foldersSayWhatTheyHold() {
        const fs::path path = folder();
        refuses(path, "no *.safetensors");
        write(path / "one.gguf", "GGUF");
        refuses(path, "one.gguf");
        const fs::path pickled = folder();
        write(pickled / "pytorch_model.bin", "x");
        write(pickled / "tokenizer.json", "{}");
        refuses(pickled, "execute code");
        const fs::path bare = folder();
        write(bare / "model.safetensors", kValid);
        refuses(bare, "config.json");
        const fs::path vocabulary = folder();
        write(vocabulary / "tokenizer.json", "{}");
        QVERIFY(openCheckpoint(vocabulary)->tensors.empty());
        refuses(path / "absent", "No such file");
    }
    void hostileConfigsAreRefused() {
        const fs::path path = folder();
        write(path / "model.safetensors", kValid);
        const auto config = [&](const std::string& text) { write(path / "config.json", text); };
        config(R"({"a":1,"a":2})");
        refuses(path, "twice");
        config(std::string(65, '[') + std::string(65, ']'));
        refuses(path, "deeper");
        config(std::string(64, '[') + std::string(64, ']'));
        QCOMPARE(refusal(path), std::string("opened"));
        config(R"({"a":1e999})");
        refuses(path, "not valid JSON");
        config("");
        refuses(path, "not valid JSON");
    }

    void namesAreCheckedByTheStandard() {
        for (const char* good : {"a", "grüß", "\xf4\x8f\xbf\xbf", "\xe0\xa0\x80"})
            QVERIFY(isUtf8(good));
        for (const char* bad :
             {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
              "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80", "\xe2\x82", "\xff"})
            QVERIFY(!isUtf8(bad));
        for (const char* good : {"model.safetensors", "a b", "com10.x", "console"})
            QVERIFY(isPlainFileName(good));
        for (const char* bad :
             {".", "..", "a/b", "a\\b", "c:x", "NUL", "com1.txt", "aux.safetensors", "a\nb", ""})
            QVERIFY(!isPlainFileName(bad));
    }
};

QTEST_GUILESS_MAIN(TestSafetensors)
#include "test_safetensors.moc"
