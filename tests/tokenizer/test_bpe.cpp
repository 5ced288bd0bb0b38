#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/split_rules.h"

using namespace nibble;
using namespace nibble::test;

namespace {

// The 256 byte tokens, then whatever a test adds.
std::vector<std::string> byteTokens(std::initializer_list<const char*> more) {
    std::vector<std::string> tokens(byteLevelCharacters().begin(), byteLevelCharacters().end());
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
}

} // namespace

class TestBpe : public QObject {
    Q_OBJECT

private slots:
    void gpt2() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/ggml-vocab-gpt-2.gguf");
        const auto tokenizer = openShared("oracles/tokenizers/ggml-vocab-gpt-2.gguf");
        QCOMPARE(tokenizer->info().preTokenizer, std::string("gpt-2"));
        QCOMPARE(tokenizer->info().eos, 50256);
        QVERIFY(!tokenizer->info().addBos);
        compareOracle(*tokenizer, "oracles/tokenizers/ggml-vocab-gpt-2.gguf");
        reportSpeed(*tokenizer, "gpt-2");
    }

    void llama3() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/llama3");
        const auto tokenizer = openRanked("oracles/tokenizers/llama3/encoder.json",
                                          "oracles/tokenizers/llama3/vocab.bpe", "llama-bpe");
        compareOracle(*tokenizer, "oracles/tokenizers/llama3/ggml-vocab-llama-bpe.gguf");
        reportSpeed(*tokenizer, "llama-bpe");
    }

    void qwen2() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/qwen2.5");
        const auto tokenizer = openRanked("oracles/tokenizers/qwen2.5/vocab.json",
                                          "oracles/tokenizers/qwen2.5/merges.txt", "qwen2");
        compareOracle(*tokenizer, "oracles/tokenizers/qwen2.5/ggml-vocab-qwen2.gguf");
        reportSpeed(*tokenizer, "qwen2");
    }

    void mergesByRankThenFromTheLeft() {
        const auto tokenizer = makeBpeTokenizer(byteTokens({"aa", "ab", "aab", "bc"}), {},
                                                {"b c", "a a", "a b", "a ab"}, "gpt-2", {});
        // Bytes are numbered by value here, so ids of letters are their codes.
        const TokenId aa = 256, ab = 257, bc = 259;
        const auto encode = [&](const char* text) { return tokenizer->encode(text, false); };
        QCOMPARE(encode("aaa"), (std::vector<TokenId>{aa, 'a'}));
        QCOMPARE(encode("abc"), (std::vector<TokenId>{'a', bc}));
        QCOMPARE(encode("ab"), (std::vector<TokenId>{ab}));
        QCOMPARE(encode("aab"), (std::vector<TokenId>{aa, 'b'}));
    }

    void aTextOnlyInsideMergesStillLeadsToItsTokens() {
        // "ab" is no token, yet "abc" is reached through it; alone it falls apart again.
        const auto tokenizer =
            makeBpeTokenizer(byteTokens({"abc"}), {}, {"a b", "ab c"}, "gpt-2", {});
        QCOMPARE(tokenizer->encode("abc", false), (std::vector<TokenId>{256}));
        QCOMPARE(tokenizer->encode("abd", false), (std::vector<TokenId>{'a', 'b', 'd'}));
    }

    void everyByteSurvives() {
        const auto tokenizer = makeBpeTokenizer(byteTokens({}), {}, {}, "llama-bpe", {});
        std::string text;
        for (int i = 0; i < 512; ++i)
            text += static_cast<char>(i * 7);
        QCOMPARE(tokenizer->decode(tokenizer->encode(text, true)), text);
    }

    void longRuns() {
        const auto tokenizer = makeBpeTokenizer(byteTokens({"aa", "aaaa", "ĠĠ", "ĊĊ"}), {},
                                                {"a a", "aa aa", "Ġ Ġ", "Ċ Ċ"}, "llama-bpe", {});
        for (const char c : {'a', ' ', '\n', '!', '7'}) {
            const std::string text(100'000, c);
            const auto ids = tokenizer->encode(text, false);
            QCOMPARE(tokenizer->decode(ids), text);
            QCOMPARE(ids.size(), c == 'a' ? 25'000u : c == ' ' || c == '\n' ? 50'000u : 100'000u);
        }
    }

    void specialTokensComeFirst() {
        // types: 3 control, 4 user-defined
        std::vector<int32_t> types(256, 1);
        types.insert(types.end(), {3, 3, 4, 1});
        const auto tokenizer = makeBpeTokenizer(byteTokens({"<|a|>", "<|a|>x", "##", "aa"}), types,
                                                {"a a"}, "gpt-2", {});
        QCOMPARE(tokenizer->encode("<|a|>aa", true), (std::vector<TokenId>{256, 259}));
        QCOMPARE(tokenizer->encode("<|a|>xaa", true), (std::vector<TokenId>{257, 259}));
        QCOMPARE(tokenizer->encode("aa##", false), (std::vector<TokenId>{259, 258}));
        QCOMPARE(tokenizer->encode("<|a|>", false),
                 (std::vector<TokenId>{'<', '|', 'a', '|', '>'}));
        QCOMPARE(tokenizer->piece(256), std::string());
        QCOMPARE(tokenizer->piece(256, true), std::string("<|a|>"));
        QCOMPARE(tokenizer->piece(258), std::string("##"));
        QCOMPARE(tokenizer->piece(9999), std::string());
    }

    void unknownPreTokenizerIsNamed() {
        const auto tokenizer = makeBpeTokenizer(byteTokens({}), {}, {}, "no-such-rules", {});
        QCOMPARE(tokenizer->info().warnings.size(), 1u);
        QVERIFY(tokenizer->info().warnings[0].find("no-such-rules") != std::string::npos);
        QVERIFY(makeBpeTokenizer(byteTokens({}), {}, {}, "qwen2", {})->info().warnings.empty());
    }

    void aFileThatNamesNoRulesIsToldOf() {
        Checkpoint checkpoint;
        auto& entries = checkpoint.metadata.entries;
        entries["tokenizer.ggml.model"].value = std::string("gpt2");
        entries["tokenizer.ggml.tokens"].value = byteTokens({});
        entries["tokenizer.ggml.merges"].value = MetadataValue::Strings{};
        const auto warnings = openTokenizer(checkpoint)->info().warnings;
        QCOMPARE(warnings.size(), 1u);
        QVERIFY(warnings[0].find("tokenizer.ggml.pre") != std::string::npos);
        entries["tokenizer.ggml.pre"].value = std::string("llama-bpe");
        const auto tokenizer = openTokenizer(checkpoint);
        QVERIFY(tokenizer->info().warnings.empty());
        QVERIFY(tokenizer->info().addBos);
        entries["tokenizer.ggml.add_bos_token"].value = false;
        QVERIFY(!openTokenizer(checkpoint)->info().addBos);
    }

    void mergesOnText() {
        Checkpoint checkpoint;
        auto& entries = checkpoint.metadata.entries;
        entries["tokenizer.ggml.model"].value = std::string("gemma4");
        entries["tokenizer.ggml.tokens"].value =
            MetadataValue::Strings{"<pad>",    "<bos>", "a",    "b",      "\u2581", "ab",
                                   "\u2581ab", "\n",    "\n\n", "<0xC3>", "<0xA9>"};
        entries["tokenizer.ggml.token_type"].value =
            MetadataValue::Integers{3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6};
        entries["tokenizer.ggml.merges"].value = MetadataValue::Strings{"a b", "\u2581 ab"};
        entries["tokenizer.ggml.bos_token_id"].value = int64_t(1);
        const auto tokenizer = openTokenizer(checkpoint);
        QVERIFY(tokenizer->info().addBos);
        const std::string text = "ab ab\n\na\u00e9";
        const std::vector<TokenId> ids = {5, 6, 8, 2, 9, 10}; // a line break is no merge, but whole
        QCOMPARE(tokenizer->encode(text, false), ids);
        QCOMPARE(tokenizer->decode(ids), text);
        // Written again it is the same.
        Checkpoint copy;
        tokenizer->putInto(copy.metadata);
        QCOMPARE(openTokenizer(copy)->encode(text, false), ids);
    }

    void everyNamedSplitCoversTheText_data() {
        QTest::addColumn<int>("row");
        for (size_t i = 0; i < namedSplits().size(); ++i)
            QTest::newRow(namedSplits()[i].names.front()) << int(i);
    }
    void everyNamedSplitCoversTheText() {
        QFETCH(int, row);
        const auto rules = compile(namedSplits()[size_t(row)]);
        const std::string text = mixedText(2'000) + "\xff\xc3 \xe2\x82" + std::string(3, ' ');
        std::string whole;
        for (const std::string_view piece : splitText(text, rules))
            whole += piece;
        QCOMPARE(whole, text);
    }
};

QTEST_GUILESS_MAIN(TestBpe)
#include "test_bpe.moc"
