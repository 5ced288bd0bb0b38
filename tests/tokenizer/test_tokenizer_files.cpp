#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/sentencepiece.h"
#include "core/tokenizer/utf8.h"

#include <QTemporaryDir>

#include <cstring>
#include <random>

using namespace nibble;
using namespace nibble::test;
using Ids = std::vector<TokenId>;

namespace {

// Protocol buffers, as sentencepiece_model.proto numbers its fields.
std::string varint(uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7)
        out += static_cast<char>(value | 0x80);
    return out + static_cast<char>(value);
}
std::string number(int field, int64_t value) {
    return varint(uint64_t(field) << 3) + varint(static_cast<uint64_t>(value));
}
std::string bytes(int field, const std::string& content) {
    return varint(uint64_t(field) << 3 | 2) + varint(content.size()) + content;
}
std::string piece(const std::string& text, float score, int type) {
    std::string raw(4, '\0');
    std::memcpy(raw.data(), &score, 4);
    return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + raw + number(3, type));
}

struct Model {
    std::string pieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) +
                         piece("\u2581", -1, 1) + piece("a", -2, 1) + piece("b", -3, 1) +
                         piece("ab", -4, 1) + piece("\u2581ab", -5, 1) + piece("<t>", 0, 4) +
                         piece("\u2581\u2581", 0, 4);
    std::string trainer = number(3, 2);
    std::string normalizer = bytes(1, "identity") + number(3, 1) + number(4, 0);

    std::string file() const { return pieces + bytes(2, trainer) + bytes(3, normalizer); }
};

// A trie for one rule: "b" becomes "a". Units: the root, whose children lie at 0 ^ label; the unit
// of b, whose value lies one further; the value, where the replacement begins.
std::string characterMap() {
    std::vector<uint32_t> units(256, 0);
    units['b'] = 1u << 10 | 1u << 8 | 'b';
    units['b' ^ 1] = 1u << 31;
    std::string out(4, '\0');
    const auto size = static_cast<uint32_t>(units.size() * 4);
    std::memcpy(out.data(), &size, 4);
    out.append(reinterpret_cast<const char*>(units.data()), size);
    return out + std::string("a\0", 2);
}

} // namespace

class TestTokenizerFiles : public QObject {
    Q_OBJECT

    QTemporaryDir m_folder;

    std::filesystem::path put(const char* name, const std::string& text) {
        const auto path = std::filesystem::path(m_folder.path().toStdString()) / name;
        std::ofstream(path, std::ios::binary) << text;
        return path;
    }
    std::shared_ptr<const Tokenizer> open(const Model& model) {
        return openTokenizerFile(put("tokenizer.model", model.file()));
    }

private slots:
    void cleanup() {
        for (const QString& name : QDir(m_folder.path()).entryList(QDir::Files))
            QFile::remove(m_folder.filePath(name));
    }

    void sentencePiece() {
        const auto tokenizer = open({});
        const auto& info = tokenizer->info();
        QCOMPARE(info.size, 10);
        QCOMPARE(info.bos, 1);
        QCOMPARE(info.eos, 2);
        QCOMPARE(info.unknown, 0);
        QVERIFY(info.addBos);
        QVERIFY(info.warnings.empty());
        QCOMPARE(tokenizer->encode("ab a", false), (Ids{7, 3, 4}));
        QCOMPARE(tokenizer->encode("azzb", false), (Ids{3, 4, 0, 5})); // unknown ones are one
        QCOMPARE(tokenizer->decode(Ids{7, 3, 4}), std::string("ab a"));
    }

    void userDefinedTokensStandInTheText() {
        const auto tokenizer = open({});
        // The space before the text is not repeated behind a token, and can be part of one.
        QCOMPARE(tokenizer->encode("<t>ab<t>", false), (Ids{3, 8, 6, 8}));
        QCOMPARE(tokenizer->encode(" ab", false), (Ids{9, 6}));
        QCOMPARE(tokenizer->encode("ab  ab", false), (Ids{7, 9, 6}));
        for (const char* text : {"<t>ab<t>", " ab", "ab  ab", "  <t> a"})
            QCOMPARE(tokenizer->decode(tokenizer->encode(text, false)), std::string(text));
    }

    void normalizing() {
        Model model;
        model.normalizer = bytes(2, characterMap()) + number(3, 1) + number(4, 1);
        const auto tokenizer = open(model);
        QCOMPARE(tokenizer->encode("  b   a ", false), (Ids{3, 4, 3, 4})); // "a a"
        QCOMPARE(tokenizer->encode("   ", false), Ids{});
        model.normalizer = number(3, 0) + number(4, 0);
        QCOMPARE(open(model)->encode("ab", false), (Ids{6}));
    }

    void whatTheFolderSays() {
        put("tokenizer_config.json",
            R"({"add_bos_token": false, "eos_token": "<end>", "legacy": false, "added_tokens_decoder":
                {"10": {"content": "<end>", "special": true}, "0": {"content": "<unk>", "special": true}}})");
        put("added_tokens.json", R"({"<more>": 11})");
        const auto tokenizer = open({});
        const auto& info = tokenizer->info();
        QCOMPARE(info.size, 12);
        QCOMPARE(info.eos, 10);
        QVERIFY(!info.addBos);
        QCOMPARE(tokenizer->encode("ab<end>ab<more>", true), (Ids{7, 10, 6, 11}));
        QCOMPARE(tokenizer->decode(Ids{7, 10, 6, 11}, true), std::string("ab<end>ab<more>"));
    }

    void otherKindsAreRefused() {
        for (const auto& [kind, name] :
             {std::pair(1, "Unigram"), {3, "Word"}, {4, "Char"}, {9, "unknown"}}) {
            Model model;
            model.trainer = number(3, kind);
            try {
                open(model);
                QFAIL(name);
            } catch (const Error& error) {
                QVERIFY2(std::string(error.what()).find(name) != std::string::npos, error.what());
                QVERIFY(std::string(error.what()).find("only BPE") != std::string::npos);
            }
        }
    }

    void damagedModels() {
        const Model model;
        const std::string whole = model.file();
        // Without its kind it would be Unigram; only where the last field is missing as a whole the
        // defaults of its content hold.
        const size_t withoutLast = whole.size() - bytes(3, model.normalizer).size();
        for (size_t length = 0; length < whole.size(); ++length) {
            const auto path = put("tokenizer.model", whole.substr(0, length));
            if (length == withoutLast)
                QVERIFY(openTokenizerFile(path));
            else
                QVERIFY_THROWS_EXCEPTION(Error, openTokenizerFile(path));
        }
        std::mt19937 random(5);
        int refused = 0;
        for (int i = 0; i < 1'000; ++i) {
            std::string text = whole;
            for (auto changes = 1 + random() % 3; changes > 0; --changes)
                text[random() % text.size()] = static_cast<char>(random());
            try {
                const auto tokenizer = openTokenizerFile(put("tokenizer.model", text));
                tokenizer->decode(tokenizer->encode("ab <t>  xyz", true));
            } catch (const Error& error) {
                QCOMPARE(int(error.kind()), int(ErrorKind::BadInput));
                ++refused;
            }
        }
        QVERIFY(refused > 100);
        Model hostile;
        hostile.normalizer = bytes(2, std::string("\xff\xff\xff\x7f", 4) + "x");
        QVERIFY_THROWS_EXCEPTION(Error, open(hostile));
        hostile = {};
        hostile.pieces += varint(1 << 3 | 2) + varint(UINT64_MAX);
        QVERIFY_THROWS_EXCEPTION(Error, open(hostile));
        hostile = {};
        hostile.pieces += piece("<0xZZ>", 0, 6); // a byte of no value
        QVERIFY_THROWS_EXCEPTION(Error, open(hostile));
    }

    void vocabularyWithMergesBeside() {
        put("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4})");
        put("merges.txt", "#version: 0.2\r\na b\r\nĠ ab\r\n");
        put("tokenizer_config.json",
            R"({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<e>",
                "added_tokens_decoder": {"5": {"content": "<e>", "special": true}}})");
        const auto folder = std::filesystem::path(m_folder.path().toStdString());
        QCOMPARE(findTokenizerFile(folder), folder / "vocab.json");
        const auto tokenizer = openTokenizerFile(findTokenizerFile(folder));
        QCOMPARE(tokenizer->info().preTokenizer, std::string("qwen2"));
        QCOMPARE(tokenizer->info().eos, 5);
        // The vocabulary has not all bytes, which is said.
        QCOMPARE(tokenizer->info().warnings.size(), 1u);
        QCOMPARE(tokenizer->encode("ab ab<e>", true), (Ids{2, 4, 5}));
        put("merges.txt", "ab\n");
        QVERIFY_THROWS_EXCEPTION(Error, openTokenizerFile(findTokenizerFile(folder)));
        QFile::remove(m_folder.filePath("merges.txt"));
        QVERIFY(findTokenizerFile(folder).empty());
        put("tokenizer.model", Model().file());
        QCOMPARE(findTokenizerFile(folder), folder / "tokenizer.model");
        put("tokenizer.json", "{}");
        QCOMPARE(findTokenizerFile(folder), folder / "tokenizer.json");
    }

    void rulesAreGuessedWithAWarning() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/llama3");
        const auto tokenizer =
            openTokenizerFile(findTokenizerFile(sharedPath("oracles/tokenizers/llama3")));
        QCOMPARE(tokenizer->info().preTokenizer, std::string("llama-bpe"));
        QCOMPARE(tokenizer->info().warnings.size(), 1u);
        QVERIFY(tokenizer->info().warnings[0].find("guessed") != std::string::npos);
        compareOracle(*tokenizer, "oracles/tokenizers/llama3/ggml-vocab-llama-bpe.gguf");
    }

    void qwenFolder() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/qwen2.5");
        const auto tokenizer =
            openTokenizerFile(findTokenizerFile(sharedPath("oracles/tokenizers/qwen2.5")));
        QVERIFY(tokenizer->info().warnings.empty());
        QCOMPARE(tokenizer->encode("<|im_end|>", true), (Ids{tokenizer->info().eos}));
        compareOracle(*tokenizer, "oracles/tokenizers/qwen2.5/ggml-vocab-qwen2.gguf");
    }

    void damagedVocabularies_data() {
        QTest::addColumn<QByteArray>("file");
        QTest::addColumn<QByteArray>("text");
        const auto row = [](const char* name, const char* file, const char* text) {
            QTest::newRow(name) << QByteArray(file) << QByteArray(text);
        };
        row("list", "vocab.json", "[]");
        row("empty", "vocab.json", "{}");
        row("id a text", "vocab.json", R"({"a": "0"})");
        row("id twice", "vocab.json", R"({"a": 0, "b": 0})");
        row("added id far away", "added_tokens.json", R"({"x": 3000000})");
        row("added id a text", "added_tokens.json", R"({"x": "y"})");
        row("notes a list", "tokenizer_config.json", "[]");
        row("decoder a list", "tokenizer_config.json", R"({"added_tokens_decoder": []})");
        row("decoder without number", "tokenizer_config.json",
            R"({"added_tokens_decoder": {"x": {"content": "y"}}})");
        row("decoder of numbers", "tokenizer_config.json", R"({"added_tokens_decoder": {"3": 4}})");
        row("class a number", "tokenizer_config.json", R"({"tokenizer_class": 1})");
    }
    void damagedVocabularies() {
        QFETCH(QByteArray, file);
        QFETCH(QByteArray, text);
        put("merges.txt", "a b\n");
        const auto vocabulary = put("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
        QVERIFY(openTokenizerFile(vocabulary));
        put(file.constData(), text.toStdString());
        QVERIFY_THROWS_EXCEPTION(Error, openTokenizerFile(vocabulary));
    }
};

QTEST_GUILESS_MAIN(TestTokenizerFiles)
#include "test_tokenizer_files.moc"
