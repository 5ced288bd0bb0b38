#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/byte_level.h"

#include <QTemporaryDir>

#include <random>

using namespace nibble;
using namespace nibble::test;
using Json = nlohmann::json;
using Ids = std::vector<TokenId>;

namespace {

// A small tokenizer.json on characters: <unk> a b ab ▁ and the special <e>.
Json characters() {
    return Json::parse(R"({
        "added_tokens": [{"id": 5, "content": "<e>", "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                  "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "▁": 4, "▁ab": 6},
                  "merges": ["a b", "▁ ab"]}})");
}

// The definition of BPE, word for word: merge the pair of lowest rank, the leftmost first, one at a
// time.
Ids naiveBpe(const Json& document, const std::string& text) {
    std::vector<std::string> parts = {"\xE2\x96\x81"};
    for (const char c : text)
        parts.push_back(c == ' ' ? parts.front() : std::string(1, c));
    std::map<std::string, size_t> ranks;
    for (const auto& merge : document["model"]["merges"])
        ranks.emplace(merge.get<std::string>(), ranks.size());
    for (;;) {
        size_t best = ranks.size(), at = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
            const auto found = ranks.find(parts[i] + " " + parts[i + 1]);
            if (found != ranks.end() && found->second < best) {
                best = found->second;
                at = i;
            }
        }
        if (best == ranks.size())
            break;
        parts[at] += parts[at + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids ids;
    for (const std::string& part : parts)
        ids.push_back(document["model"]["vocab"][part].get<TokenId>());
    return ids;
}

} // namespace

class TestTokenizerJson : public QObject {
    Q_OBJECT

    QTemporaryDir m_folder;

    std::shared_ptr<const Tokenizer> open(const std::string& text) {
        const auto path = std::filesystem::path(m_folder.path().toStdString()) / "tokenizer.json";
        std::ofstream(path, std::ios::binary) << text;
        return openTokenizerJson(path);
    }
    std::shared_ptr<const Tokenizer> open(const Json& json) { return open(json.dump()); }
    void beside(const char* name, const char* text) {
        std::ofstream(std::filesystem::path(m_folder.path().toStdString()) / name) << text;
    }

private slots:
    void cleanup() {
        for (const char* name : {"tokenizer_config.json", "config.json", "special_tokens_map.json"})
            QFile::remove(m_folder.filePath(name));
    }

    void smollm2() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/smollm2/tokenizer.json");
        const auto tokenizer =
            openTokenizerJson(sharedPath("oracles/tokenizers/smollm2/tokenizer.json"));
        const auto& info = tokenizer->info();
        QCOMPARE(info.size, 49152);
        QCOMPARE(info.preTokenizer, std::string("smollm"));
        QVERIFY(info.warnings.empty());
        QCOMPARE(info.bos, 1); // config.json says so
        QCOMPARE(info.eos, 2);
        QCOMPARE(info.eot, 2);
        QVERIFY(!info.addBos);
        QCOMPARE(tokenizer->encode("<|im_start|>user\nHi<|im_end|>", true).front(), 1);
        QCOMPARE(tokenizer->encode("<|im_end|>", true), (Ids{2}));
        QVERIFY(tokenizer->encode("<|im_end|>", false).size() > 1);
        for (const OracleCase& oracle : readOracle("oracles/tokenizers/ggml-vocab-gpt-2.gguf"))
            QCOMPARE(tokenizer->decode(tokenizer->encode(oracle.text, false)), oracle.text);
        const std::string mixed = mixedText(10'000);
        QCOMPARE(tokenizer->decode(tokenizer->encode(mixed, true)), mixed);
        reportSpeed(*tokenizer, "smollm2");
    }

    void tinyStories() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/tokenizer.json");
        const auto tokenizer =
            openTokenizerJson(sharedPath("models/TinyStories-656K/tokenizer.json"));
        const auto& info = tokenizer->info();
        QCOMPARE(info.size, 2048);
        QCOMPARE(info.bos, 1);
        QCOMPARE(info.eos, 2);
        QCOMPARE(info.unknown, 0);
        QVERIFY(info.addBos);
        QCOMPARE(info.stops, (Ids{2}));
        const std::string text =
            "Once upon a time, there was a little girl named Lily. She said: \"Hello!\"\n";
        const auto ids = tokenizer->encode(text, false);
        QCOMPARE(tokenizer->decode(ids), text);
        QVERIFY(ids.size() < text.size() / 2);
        QVERIFY(std::ranges::find(ids, 0) == ids.end());
        QCOMPARE(tokenizer->encode("<|end_story|>", true), (Ids{2}));
    }

    void tinyStoriesMergesAsTheDefinitionSays() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/tokenizer.json");
        const auto path = sharedPath("models/TinyStories-656K/tokenizer.json");
        const auto tokenizer = openTokenizerJson(path);
        const std::string text =
            "Once upon a time, there was a little girl named Lily. She said: \"It's "
            "10 o'clock!\" and they all went home to play  together.\n";
        QCOMPARE(tokenizer->encode(text, false), naiveBpe(Json::parse(readWhole(path)), text));
    }

    void tinyStoriesAgreesWithItsGguf() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/tokenizer.json");
        const auto json = openTokenizerJson(sharedPath("models/TinyStories-656K/tokenizer.json"));
        const auto gguf = openShared("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf");
        QCOMPARE(json->info().size, gguf->info().size);
        QCOMPARE(json->info().bos, gguf->info().bos);
        QCOMPARE(json->info().eos, gguf->info().eos);
        for (TokenId id = 0; id < gguf->info().size; ++id)
            QCOMPARE(json->piece(id, true), gguf->piece(id, true));
        // The ids themselves differ: whoever wrote that file gave all tokens the same score, which
        // loses the order of the merges.
        const std::string text = "Once upon a time, there was a little girl named Lily.";
        QCOMPARE(json->decode(json->encode(text, false)), text);
        QCOMPARE(gguf->decode(gguf->encode(text, false)), text);
        QVERIFY(json->encode(text, false).size() < gguf->encode(text, false).size());
    }

    void writtenToGgufItTokenizesTheSame_data() {
        QTest::addColumn<QByteArray>("path");
        QTest::newRow("characters") << QByteArray("models/TinyStories-656K/tokenizer.json");
        QTest::newRow("bytes") << QByteArray("oracles/tokenizers/smollm2/tokenizer.json");
    }
    void writtenToGgufItTokenizesTheSame() {
        QFETCH(QByteArray, path);
        NIBBLE_NEED_SHARED(path.constData());
        const auto original = openTokenizerJson(sharedPath(path.constData()));
        Metadata metadata;
        original->putInto(metadata);
        metadata.entries["general.architecture"] = {.value = std::string("llama"), .storedType = 8};
        const std::filesystem::path file =
            std::filesystem::path(m_folder.path().toStdString()) / "vocabulary.gguf";
        writeGguf(file, metadata, {}, [](size_t) { return Bytes(); });
        const auto copy = openTokenizer(*openCheckpoint(file));
        QCOMPARE(copy->info().size, original->info().size);
        QCOMPARE(copy->info().bos, original->info().bos);
        QCOMPARE(copy->info().eos, original->info().eos);
        QCOMPARE(copy->info().addBos, original->info().addBos);
        QCOMPARE(copy->info().stops, original->info().stops);
        const std::string text =
            "Once upon a time, there was a little girl named Lily. She said: \"It's "
            "10 o'clock!\" and they all went home to play  together.\n";
        QCOMPARE(copy->encode(text, false), original->encode(text, false));
        for (const OracleCase& oracle : readOracle("oracles/tokenizers/ggml-vocab-gpt-2.gguf"))
            QCOMPARE(copy->decode(copy->encode(oracle.text, true)),
                     original->decode(original->encode(oracle.text, true)));
    }

    void characterMerges() {
        const auto tokenizer = open(characters());
        QCOMPARE(tokenizer->encode("ab ab", false), (Ids{6, 6}));
        QCOMPARE(tokenizer->encode("b", false), (Ids{4, 2}));
        QCOMPARE(tokenizer->encode("<e>ab", true), (Ids{5, 6}));
        QCOMPARE(tokenizer->encode("azzb", false), (Ids{4, 1, 0, 2})); // unknown ones fuse
        QCOMPARE(tokenizer->decode(Ids{6, 6}), std::string("ab ab"));
        QCOMPARE(tokenizer->info().model, std::string("llama"));
    }

    void byteFallback() {
        Json json = characters();
        json["model"]["vocab"]["<0xC3>"] = 7;
        json["model"]["vocab"]["<0xA9>"] = 8;
        const auto tokenizer = open(json);
        QCOMPARE(tokenizer->encode("\xC3\xA9", false), (Ids{4, 7, 8}));
        QCOMPARE(tokenizer->decode(Ids{4, 7, 8}), std::string("\xC3\xA9"));
        QCOMPARE(tokenizer->encode("\xC3\xA8", false), (Ids{4, 0})); // its second byte is missing
    }

    void mergesAsPairs() {
        Json json = characters();
        json["model"]["merges"] = Json::parse(R"([["a", "b"], ["▁", "ab"]])");
        QCOMPARE(open(json)->encode("ab ab", false), open(characters())->encode("ab ab", false));
    }

    void metaspaceFirst() {
        Json json = characters();
        json["normalizer"] = nullptr;
        json["pre_tokenizer"] = Json::parse(
            R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})");
        const auto tokenizer = open(json);
        QCOMPARE(tokenizer->encode("ab<e>ab", true), (Ids{6, 5, 3}));
        QCOMPARE(tokenizer->encode(" ab", true), (Ids{6})); // already starts with one
    }

    void splitBehaviours_data() {
        QTest::addColumn<QByteArray>("behaviour");
        QTest::addColumn<bool>("invert");
        QTest::addColumn<QByteArray>("expected");
        // Every word is emitted whole (ignore_merges); ids are looked up by their text below.
        QTest::newRow("isolated") << QByteArray("Isolated") << false << QByteArray("a|-|-|b");
        QTest::newRow("removed") << QByteArray("Removed") << false << QByteArray("a|b");
        QTest::newRow("removed inverted") << QByteArray("Removed") << true << QByteArray("-|-");
        QTest::newRow("previous") << QByteArray("MergedWithPrevious") << false
                                  << QByteArray("a-|-|b");
        QTest::newRow("next") << QByteArray("MergedWithNext") << false << QByteArray("a|-|-b");
        QTest::newRow("contiguous") << QByteArray("Contiguous") << false << QByteArray("a|--|b");
    }
    void splitBehaviours() {
        QFETCH(QByteArray, behaviour);
        QFETCH(bool, invert);
        QFETCH(QByteArray, expected);
        Json json =
            Json::parse(R"({"model": {"vocab": {"a": 0, "b": 1, "-": 2, "--": 3, "a-": 4, "-b": 5},
                                              "merges": [], "ignore_merges": true}})");
        json["pre_tokenizer"] = {{"type", "Split"},
                                 {"pattern", {{"String", "-"}}},
                                 {"behavior", behaviour.toStdString()},
                                 {"invert", invert}};
        const auto tokenizer = open(json);
        QByteArray found;
        for (const TokenId id : tokenizer->encode("a--b", false))
            found += (found.isEmpty() ? "" : "|") + QByteArray::fromStdString(tokenizer->piece(id));
        QCOMPARE(found, expected);
    }

    void normalForms() {
        Json json = characters();
        json["normalizer"] = Json::parse(R"({"type": "NFC"})");
        json["model"]["vocab"]["é"] = 7;
        QCOMPARE(open(json)->encode("e\xCC\x81", false), (Ids{7}));
    }

    void normalizers_data() {
        QTest::addColumn<QByteArray>("normalizer");
        QTest::addColumn<QByteArray>("text");
        QTest::addColumn<QByteArray>("expected"); ///< the text that encoding sees
        const auto row = [](const char* name, const char* normalizer, const char* text,
                            const char* expected) {
            QTest::newRow(name) << QByteArray(normalizer) << QByteArray(text)
                                << QByteArray(expected);
        };
        row("NFD", R"({"type": "NFD"})", "\u00e9", "e\u0301");
        row("NFKC", R"({"type": "NFKC"})", "\uFB01\u00b2", "fi2");
        row("invalid bytes stay", R"({"type": "NFC"})", "e\u0301\xff", "\u00e9\xff");
        row("lower case", R"({"type": "Lowercase"})", "AÉ\u0130Σ", "aéi\u0307σ");
        row("accents", R"({"type": "StripAccents"})", "e\u0301e", "ee");
        row("strip", R"({"type": "Strip", "strip_left": true, "strip_right": true})",
            " \u3000a b\n", "a b");
        row("strip left", R"({"type": "Strip", "strip_left": true, "strip_right": false})", " a ",
            "a ");
        row("replace", R"({"type": "Replace", "pattern": {"String": "''"}, "content": "q"})",
            "''a'", "qa'");
        row("replace by pattern",
            R"({"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "$0"})", "a12b3",
            "a$0b$0");
        row("in order",
            R"({"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"},
                "content": "B"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "X"}]})",
            "aA", "Xba");
    }
    void normalizers() {
        QFETCH(QByteArray, normalizer);
        QFETCH(QByteArray, text);
        QFETCH(QByteArray, expected);
        Json json = Json::parse(R"({"model": {"vocab": {}, "merges": []},
                                    "pre_tokenizer": {"type": "ByteLevel",
                                                      "add_prefix_space": false}})");
        for (int byte = 0; byte < 256; ++byte)
            json["model"]["vocab"][byteLevelCharacters()[size_t(byte)]] = byte;
        json["normalizer"] = Json::parse(normalizer.toStdString());
        const auto tokenizer = open(json);
        QVERIFY(tokenizer->info().warnings.empty());
        QByteArray seen;
        for (const TokenId id : tokenizer->encode(text.toStdString(), false))
            seen += static_cast<char>(id);
        QCOMPARE(seen, expected);
    }

    void marksWithoutEndAreNormalizedInTime() {
        Json json = characters();
        json["normalizer"] = Json::parse(R"({"type": "NFC"})");
        std::string text = "a";
        for (int i = 0; i < 100'000; ++i)
            text += i % 2 ? "\u0323" : "\u0301";
        QElapsedTimer timer;
        timer.start();
        open(json)->encode(text, false);
        QVERIFY2(timer.elapsed() < 5'000, "ordering them takes the square of their number");
    }

    void aReplacementThatExplodesIsStopped() {
        Json json = characters();
        Json steps = Json::array();
        for (int i = 0; i < 8; ++i)
            steps.push_back({{"type", "Replace"},
                             {"pattern", {{"String", "a"}}},
                             {"content", std::string(1'000, 'a')}});
        json["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
        QVERIFY_THROWS_EXCEPTION(Error, open(json)->encode("aa", false));
    }

    void addedTokens_data() {
        QTest::addColumn<QByteArray>("flags");
        QTest::addColumn<QByteArray>("text");
        QTest::addColumn<QByteArray>("expected"); ///< the token as #
        const auto row = [](const char* flags, const char* text, const char* expected) {
            QTest::newRow(text) << QByteArray(flags) << QByteArray(text) << QByteArray(expected);
        };
        row("", "a TOK b", "a # b");
        row(R"("lstrip": true)", "a \u3000TOK b", "a# b");
        row(R"("rstrip": true)", "a TOK \n b", "a #b");
        row(R"("single_word": true)", "aTOK TOKb TOK_ \u00e9TOK TOK.",
            "aTOK TOKb TOK_ \u00e9TOK #.");
        row(R"("normalized": true)", "a TOK tok", "a # #"); // what is found is in lower case too
        row(R"("normalized": false)", "a TOK tok ", "a # tok ");
    }
    void addedTokens() {
        QFETCH(QByteArray, flags);
        QFETCH(QByteArray, text);
        QFETCH(QByteArray, expected);
        Json json = Json::parse(R"({"model": {"vocab": {}, "merges": []},
                                    "pre_tokenizer": {"type": "ByteLevel",
                                                      "add_prefix_space": false}})");
        for (int byte = 0; byte < 256; ++byte)
            json["model"]["vocab"][byteLevelCharacters()[size_t(byte)]] = byte;
        if (flags.contains("normalized"))
            json["normalizer"] = {{"type", "Lowercase"}};
        json["added_tokens"] = Json::array();
        json["added_tokens"].push_back(
            Json::parse("{\"id\": 256, \"content\": \"TOK\"" +
                        (flags.isEmpty() ? std::string() : ", " + flags.toStdString()) + "}"));
        const auto tokenizer = open(json);
        QByteArray seen;
        for (const TokenId id : tokenizer->encode(text.toStdString(), false))
            seen += id == 256 ? '#' : static_cast<char>(id);
        QCOMPARE(seen, expected);
    }

    void spacesBeforeEachPiece() {
        // After a cut each piece has one, unless it begins with one already.
        Json json = characters();
        json["normalizer"] = nullptr;
        json["pre_tokenizer"] = Json::parse(
            R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]})");
        QCOMPARE(open(json)->encode("ab  ab", false), (Ids{6, 6}));
    }

    void mutatedFilesNeverCrash() {
        const std::string whole = characters().dump();
        std::mt19937 random(6);
        int refused = 0;
        for (int i = 0; i < 1'000; ++i) {
            std::string text = whole;
            for (auto changes = 1 + random() % 3; changes > 0; --changes) {
                const size_t at = random() % text.size();
                if (random() % 3 == 0)
                    text.erase(at, random() % 8);
                else if (random() % 2)
                    text.insert(at, text.substr(random() % text.size(), random() % 12));
                else
                    text[at] = static_cast<char>(32 + random() % 95);
            }
            try {
                const auto tokenizer = open(text);
                tokenizer->decode(tokenizer->encode("ab <e> xyz\xff", true));
            } catch (const Error& error) {
                QCOMPARE(int(error.kind()), int(ErrorKind::BadInput));
                ++refused;
            }
        }
        QVERIFY(refused > 100);
    }

    void specialNamesBesideIt() {
        beside("tokenizer_config.json",
               R"({"bos_token": {"content": "ab"}, "eos_token": "<e>", "add_bos_token": true})");
        beside("config.json", R"({"bos_token_id": 1, "eos_token_id": [5, 2]})");
        const auto tokenizer = open(characters());
        QCOMPARE(tokenizer->info().bos, 3);
        QCOMPARE(tokenizer->info().eos, 5);
        QVERIFY(tokenizer->info().addBos);
        QCOMPARE(tokenizer->info().stops, (Ids{2, 5}));
    }

    void unknownStepsAreNamed() {
        Json json = characters();
        json["normalizer"] = Json::parse(R"({"type": "Shout"})");
        QVERIFY(open(json)->info().warnings.at(0).find("Shout") != std::string::npos);
        json = characters();
        json["pre_tokenizer"] = Json::parse(R"({"type": "Dance"})");
        QVERIFY(open(json)->info().warnings.at(0).find("Dance") != std::string::npos);
        json = characters();
        json["decoder"] = Json::parse(R"({"type": "Sing"})");
        QVERIFY(open(json)->info().warnings.at(0).find("Sing") != std::string::npos);
    }

    void damaged_data() {
        QTest::addColumn<QByteArray>("pointer");
        QTest::addColumn<QByteArray>("value");
        const auto row = [](const char* name, const char* pointer, const char* value) {
            QTest::newRow(name) << QByteArray(pointer) << QByteArray(value);
        };
        row("model gone", "/model", "null");
        row("model a list", "/model", "[]");
        row("another kind of model", "/model/type", "\"Unigram\"");
        row("word ends", "/model/end_of_word_suffix", "\"</w>\"");
        row("vocab a list", "/model/vocab", "[]");
        row("vocab empty", "/model/vocab", "{}");
        row("id a text", "/model/vocab/a", "\"1\"");
        row("id negative", "/model/vocab/a", "-1");
        row("id fractional", "/model/vocab/a", "1.5");
        row("id enormous", "/model/vocab/a", "4194304");
        row("id far away", "/model/vocab/a", "3000000");
        row("id twice", "/model/vocab/a", "2");
        row("merges gone", "/model/merges", "null");
        row("merge without a space", "/model/merges/0", "\"ab\"");
        row("merge a number", "/model/merges/0", "7");
        row("merge of three", "/model/merges/0", "[\"a\", \"b\", \"c\"]");
        row("merge with an empty side", "/model/merges/0", "[\"a\", \"\"]");
        row("flag a text", "/model/byte_fallback", "\"yes\"");
        row("added tokens a text", "/added_tokens", "\"x\"");
        row("added token a number", "/added_tokens/0", "1");
        row("added token without id", "/added_tokens/0/id", "null");
        row("added token takes another's id", "/added_tokens/0/id", "1");
        row("normalizer a number", "/normalizer", "1");
        row("sequence of nothing", "/normalizer/normalizers", "null");
        row("pattern gone", "/pre_tokenizer", "{\"type\": \"Split\"}");
        row("pattern broken", "/pre_tokenizer",
            "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a\"}}");
        row("behaviour unknown", "/pre_tokenizer",
            "{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Eaten\"}");
    }
    void damaged() {
        QFETCH(QByteArray, pointer);
        QFETCH(QByteArray, value);
        Json json = characters();
        json[Json::json_pointer(pointer.toStdString())] = Json::parse(value.toStdString());
        try {
            open(json);
            QFAIL("accepted");
        } catch (const Error& error) {
            QCOMPARE(int(error.kind()), int(ErrorKind::BadInput));
            QVERIFY2(QByteArray(error.what()).startsWith("tokenizer.json"), error.what());
        }
    }

    void everyPrefixIsRefused() {
        const std::string text = characters().dump();
        for (size_t length = 0; length < text.size(); ++length)
            QVERIFY_THROWS_EXCEPTION(Error, open(text.substr(0, length)));
    }

    void deepNestingIsRefused() {
        std::string nested = R"({"normalizer": )";
        for (int i = 0; i < 100'000; ++i)
            nested += R"({"type": "Sequence", "normalizers": [)";
        QVERIFY_THROWS_EXCEPTION(Error, open(nested));
    }

    void aRunawayPatternIsStopped() {
        Json json = characters();
        json["pre_tokenizer"] = {{"type", "Split"},
                                 {"pattern", {{"Regex", "(?:a+)+(?:a+)+(?:a+)+c"}}},
                                 {"behavior", "Isolated"}};
        const auto tokenizer = open(json);
        QElapsedTimer timer;
        timer.start();
        QVERIFY_THROWS_EXCEPTION(Error, tokenizer->encode(std::string(200, 'a') + "bc", false));
        qInfo("stopped after %lld ms", timer.elapsed());
    }
};

QTEST_GUILESS_MAIN(TestTokenizerJson)
#include "test_tokenizer_json.moc"
