#include "core/base/error.h"
#include "core/model/diagnosis.h"
#include "tests/support/block_model.h"

#include <QTemporaryDir>
#include <QTest>
#include <algorithm>
#include <fstream>

using namespace nibble;
using nibble::test::GgufBytes;
namespace fs = std::filesystem;

/// What is told of models that are known in part.
class TestDiagnosis : public QObject {
    Q_OBJECT
    QTemporaryDir m_root;

    fs::path write(const std::string& bytes) {
        const fs::path path = fs::path(m_root.path().toStdString()) / "model.gguf";
        std::ofstream(path, std::ios::binary) << bytes;
        return path;
    }
    static bool has(const std::vector<std::string>& sentences, std::string_view words) {
        return std::ranges::any_of(sentences, [&](const std::string& sentence) {
            return sentence.find(words) != std::string::npos;
        });
    }
    static std::string replaced(std::string bytes, std::string_view what, std::string_view with) {
        for (size_t at = 0; (at = bytes.find(what, at)) != std::string::npos; at += with.size())
            bytes.replace(at, what.size(), with);
        return bytes;
    }
    /// An unknown architecture with a vocabulary of its kind and one matrix.
    static std::string stranger(const char* tokenizer) {
        GgufBytes file(1, 3);
        file.key("general.architecture", 8).text("zebra");
        file.key("tokenizer.ggml.model", 8).text(tokenizer);
        file.key("tokenizer.ggml.pre", 8).text("stripes");
        file.tensor("stripes.weight", {8, 4}, 0, 0).pad();
        for (int i = 0; i < 32; ++i)
            file.put(float(i));
        return file.bytes();
    }

private slots:
    void aKnownModelIsKnown() {
        const auto model = openForInspection(write(test::blockModel(test::kIq3_s)));
        const Diagnosis d = diagnose(*model);
        QVERIFY(d.architectureKnown && d.problem.empty());
        QCOMPARE(d.architecture, std::string("llama"));
        QVERIFY2(d.quantization.starts_with("iq3_s (99"), d.quantization.c_str());
        QCOMPARE(d.decoded, std::vector<std::string>{"8 of iq3_s run as f16"});
        QVERIFY(d.unused.empty());
        QVERIFY(has(d.warnings, "no tokenizer"));
        QVERIFY(!d.hasTemplate);
    }

    void anUnknownArchitectureIsLookedAt() {
        const auto model = openForInspection(write(stranger("t5")));
        const Diagnosis d = diagnose(*model);
        QVERIFY(!d.architectureKnown);
        QCOMPARE(d.architecture, std::string("zebra"));
        QVERIFY2(d.problem.find("\"zebra\"") != std::string::npos, d.problem.c_str());
        QCOMPARE(d.tokenizer, std::string("t5"));
        QCOMPARE(d.preTokenizer, std::string("stripes"));
        QVERIFY(!d.tokenizerKnown && has(d.warnings, "\"t5\""));
        const TensorStatistics s =
            computeStatistics(storedRows(model->checkpoint->get("stripes.weight")));
        QCOMPARE(s.mean, 15.5);
        QVERIFY_EXCEPTION_THROWN(model->requireRunnable(), Error);
    }

    /// The weights of a known model can be used where its vocabulary cannot.
    void anUnknownTokenizerIsNoDamage() {
        std::string bytes = test::blockModel(test::kIq3_s);
        std::string entry;
        const uint64_t length = 20;
        entry.append(reinterpret_cast<const char*>(&length), 8);
        entry += "tokenizer.ggml.model";
        const uint32_t type = 8;
        entry.append(reinterpret_cast<const char*>(&type), 4);
        const uint64_t text = 4;
        entry.append(reinterpret_cast<const char*>(&text), 8);
        entry += "rwkv";
        // In place of the entry that says how many dimensions RoPE turns; the head size is as much.
        const std::string old = "llama.rope.dimension_count";
        const size_t at = bytes.find(old) - 8;
        GgufBytes whole(0, 0);
        bytes.replace(at, 8 + old.size() + 4 + 4, entry);
        // The header grew; what follows is aligned anew.
        const size_t grown = entry.size() - (8 + old.size() + 8);
        QVERIFY(grown < 32);
        const size_t table = bytes.find("output_norm.weight");
        const size_t end = table + std::string_view("output_norm.weight").size() + 4 + 8 + 4 + 8;
        size_t data = end;
        while (bytes[data] == 0)
            ++data;
        const size_t oldStart = (end - grown + 31) / 32 * 32 + grown;
        const size_t newStart = (end + 31) / 32 * 32;
        bytes.erase(end, oldStart - end);
        bytes.insert(end, newStart - end, '\0');
        const auto model = openModel(write(bytes));
        QVERIFY2(model->unsupported.empty(), model->unsupported.c_str());
        QVERIFY(!model->tokenizer);
        QVERIFY(model->tokenizerProblem.find("\"rwkv\"") != std::string::npos);
        QVERIFY(has(diagnose(*model).warnings, "\"rwkv\""));
        try {
            model->requireTokenizer("it cannot chat");
            QFAIL("a tokenizer");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QCOMPARE(std::string(error.what()), model->tokenizerProblem);
        }
    }

    void whatIsMissingIsNamed() {
        const fs::path path = write(replaced(
            replaced(test::blockModel(test::kIq3_s), "ffn_up", "ffn_xx"), "attn_q.", "attn_x."));
        const auto model = openForInspection(path);
        QVERIFY2(model->unsupported.find("blk.0.") != std::string::npos,
                 model->unsupported.c_str());
        const Diagnosis d = diagnose(*model);
        QVERIFY(d.architectureKnown && !d.problem.empty());
        QCOMPARE(model->checkpoint->tensors.size(), size_t(11));
        QVERIFY(!d.quantization.empty());
    }

    void companionsAreNoModels() {
        GgufBytes file(0, 2);
        file.key("general.architecture", 8).text("llama").key("general.type", 8).text("adapter");
        const auto model = openForInspection(write(file.bytes()));
        QVERIFY(diagnose(*model).kind == FileKind::Adapter);
        QVERIFY2(model->unsupported.find("LoRA adapter") != std::string::npos,
                 model->unsupported.c_str());
        QVERIFY(diagnose(*model).warnings.empty());
    }

    void aMissingTemplateIsSaid() {
        Model model;
        model.checkpoint = std::make_shared<Checkpoint>();
        QVERIFY(templateWarning(model).find("no chat template") != std::string::npos);
        model.chatTemplate = "{{ messages }}";
        QVERIFY(templateWarning(model).empty());
        model.chatTemplate = "{% for";
        QVERIFY(!templateWarning(model).empty());
    }

    void metadataIsSearched() {
        GgufBytes file(0, 5);
        file.key("general.name", 8).text("A name\nof two lines");
        file.key("general.alignment", 4).put(32u);
        file.key("zoo.animals", 9).put(8u).put(uint64_t(20));
        for (int i = 0; i < 20; ++i)
            file.text("animal" + std::to_string(i));
        file.key("zoo.weights", 9).put(6u).put(uint64_t(2)).put(0.5f).put(2.0f);
        file.key("zoo.open", 7).put(uint8_t(1));
        const auto checkpoint = openCheckpoint(write(file.bytes()));
        const Metadata& metadata = checkpoint->metadata;
        const auto rows = metadataRows(metadata);
        QCOMPARE(rows.size(), size_t(5));
        const auto keys = [&](const char* pattern) {
            QStringList found;
            for (const MetadataRow& row : metadataRows(metadata, pattern))
                found << QString::fromStdString(row.key);
            return found;
        };
        QCOMPARE(keys("ZOO"), QStringList({"zoo.animals", "zoo.open", "zoo.weights"}));
        QCOMPARE(keys("zoo f32"), QStringList({"zoo.weights"}));
        QCOMPARE(keys("animal7"), QStringList({"zoo.animals"}));
        QCOMPARE(keys("two lines"), QStringList({"general.name"}));
        QVERIFY(keys("nothing").isEmpty());
        QCOMPARE(rows[1].value, std::string("A name\\x0aof two lines"));
        QCOMPARE(rows[0].type, std::string("u32"));
        QCOMPARE(rows[2].type, std::string("20 strings"));
        QVERIFY2(rows[2].value.ends_with(", … (20 in all)"), rows[2].value.c_str());
        QCOMPARE(rows[4].type, std::string("2 × f32"));
        QCOMPARE(rows[4].value, std::string("0.5, 2"));
        QCOMPARE(fullText(*metadata.find("zoo.weights")), std::string("0.5\n2\n"));
        QCOMPARE(fullText(*metadata.find("general.name")), std::string("A name\nof two lines"));
        QCOMPARE(fullText(*metadata.find("zoo.animals")).substr(0, 8), std::string("animal0\n"));
    }
};

QTEST_GUILESS_MAIN(TestDiagnosis)
#include "test_diagnosis.moc"
