#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"

using namespace nibble;
using namespace nibble::test;

namespace {

Checkpoint spmCheckpoint(MetadataValue::Strings tokens, MetadataValue::Floats scores,
                         MetadataValue::Integers types) {
    Checkpoint checkpoint;
    checkpoint.container = Checkpoint::Container::Memory;
    auto& entries = checkpoint.metadata.entries;
    entries["tokenizer.ggml.model"].value = std::string("llama");
    entries["tokenizer.ggml.tokens"].value = std::move(tokens);
    entries["tokenizer.ggml.scores"].value = std::move(scores);
    entries["tokenizer.ggml.token_type"].value = std::move(types);
    return checkpoint;
}

using Ids = std::vector<TokenId>;

} // namespace

class TestSpm : public QObject {
    Q_OBJECT

private slots:
    void llama2() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        const auto tokenizer = openShared("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        QCOMPARE(tokenizer->info().size, 32000);
        QCOMPARE(tokenizer->info().bos, 1);
        QCOMPARE(tokenizer->info().stops, (Ids{2}));
        QVERIFY(tokenizer->info().addBos);
        compareOracle(*tokenizer, "oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        reportSpeed(*tokenizer, "llama-spm");
    }

    void phi3() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/ggml-vocab-phi-3.gguf");
        const auto tokenizer = openShared("oracles/tokenizers/ggml-vocab-phi-3.gguf");
        compareOracle(*tokenizer, "oracles/tokenizers/ggml-vocab-phi-3.gguf");
        QCOMPARE(tokenizer->info().eot, 32007);
        QCOMPARE(tokenizer->info().stops, (Ids{32000, 32007}));
        // Its control tokens swallow the white space behind them.
        QCOMPARE(tokenizer->encode("<|user|>\nHi<|end|>\n", true),
                 tokenizer->encode("<|user|>Hi<|end|>", true));
    }

    void longRuns() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        const auto tokenizer = openShared("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        for (const char* unit : {"a", " ", "\n", "\xE2\x96\x81", "\xF0\x9F\xA6\x99", "=", "\xff"}) {
            std::string text;
            for (int i = 0; i < 100'000; ++i)
                text += unit;
            const std::string back = tokenizer->decode(tokenizer->encode(text, false));
            if (std::string(unit) == "\xE2\x96\x81") // stands for a space, which is what comes back
                QCOMPARE(back, std::string(100'000, ' '));
            else
                QCOMPARE(back, text);
        }
    }

    void highestScoreFirst() {
        const auto open = [](float ab, float bc) {
            return openTokenizer(
                spmCheckpoint({"<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc", "\xE2\x96\x81"},
                              {0, 0, 0, 0, 0, 0, ab, bc, 0}, {2, 3, 3, 1, 1, 1, 1, 1, 1}));
        };
        QCOMPARE(open(-1, -2)->encode("abc", false), (Ids{8, 6, 5}));
        QCOMPARE(open(-2, -1)->encode("abc", false), (Ids{8, 3, 7}));
        QCOMPARE(open(-1, -1)->encode("abc", false), (Ids{8, 6, 5})); // equal: from the left
    }

    void withoutByteTokensACharacterIsUnknown() {
        const auto tokenizer = openTokenizer(spmCheckpoint(
            {"<unk>", "<s>", "</s>", "a", "\xE2\x96\x81"}, {0, 0, 0, 0, 0}, {2, 3, 3, 1, 1}));
        QCOMPARE(tokenizer->encode("a\xC3\xA9\xC3\xA9 a", false), (Ids{4, 3, 0, 0, 4, 3}));
        QCOMPARE(tokenizer->encode("", false), Ids{});
        QCOMPARE(tokenizer->decode(Ids{4, 3, 4, 3}), std::string("a a"));
    }

    void typedControlTokensStayText() {
        const auto tokenizer = openTokenizer(
            spmCheckpoint({"<unk>", "<s>", "</s>", "<", "s", ">", "<s", "\xE2\x96\x81"},
                          {0, 0, 0, 0, 0, 0, 0, 0}, {2, 3, 3, 1, 1, 1, 1, 1}));
        QCOMPARE(tokenizer->encode("<s>", false), (Ids{7, 6, 5}));
        QCOMPARE(tokenizer->encode("<s>", true), (Ids{1}));
        QCOMPARE(tokenizer->encode("<s>s", true),
                 (Ids{1, 7, 4})); // the space before comes again after it
        QCOMPARE(tokenizer->decode(Ids{1, 7, 4}, true), std::string("<s>s"));
        QCOMPARE(tokenizer->decode(Ids{1, 7, 4}), std::string("s"));
    }

    void noSpacePrefixWhenTheFileSaysSo() {
        Checkpoint checkpoint = spmCheckpoint({"<unk>", "<s>", "</s>", "a", "\xE2\x96\x81"},
                                              {0, 0, 0, 0, 0}, {2, 3, 3, 1, 1});
        checkpoint.metadata.entries["tokenizer.ggml.add_space_prefix"].value = false;
        const auto tokenizer = openTokenizer(checkpoint);
        QCOMPARE(tokenizer->encode("a", false), (Ids{3}));
        QCOMPARE(tokenizer->decode(Ids{4, 3}), std::string(" a"));
    }

    void wordsAreCutOnlyWhereNoTokenReachesOver() {
        // "a▁" reaches over the end of a word, so the text must be merged as a whole.
        const auto tokenizer = openTokenizer(
            spmCheckpoint({"<unk>", "<s>", "</s>", "a", "\xE2\x96\x81", "a\xE2\x96\x81",
                           "\xE2\x96\x81"
                           "a"},
                          {0, 0, 0, 0, 0, -1, -2}, {2, 3, 3, 1, 1, 1, 1}));
        QCOMPARE(tokenizer->encode("a a", false), (Ids{4, 5, 3}));
    }
};

QTEST_GUILESS_MAIN(TestSpm)
#include "test_spm.moc"
