#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/split_rules.h"

#include <set>

using namespace nibble;
using namespace nibble::test;

namespace {

QByteArray joined(const std::vector<std::string_view>& pieces) {
    QByteArray text;
    for (const std::string_view piece : pieces)
        text += (text.isEmpty() ? "" : "|") + QByteArray(piece.data(), qsizetype(piece.size()));
    return text;
}

// tokenizer.ggml.pre as the converters of GGUF files write it.
constexpr const char* kNames[] = {"default",      "llama3",
                                  "llama-v3",     "llama-bpe",
                                  "falcon3",      "falcon-h1",
                                  "pixtral",      "midm-2.0",
                                  "lfm2",         "jina-v5-nano",
                                  "deepseek-llm", "deepseek-coder",
                                  "deepseek-v3",  "youtu",
                                  "falcon",       "mpt",
                                  "starcoder",    "gpt-2",
                                  "phi-2",        "jina-es",
                                  "jina-de",      "gigachat",
                                  "jina-v2-es",   "jina-v2-de",
                                  "a.x-4.0",      "mellum",
                                  "modern-bert",  "jina-v1-en",
                                  "jina-v2-code", "roberta-bpe",
                                  "refact",       "command-r",
                                  "qwen2",        "deepseek-r1-qwen",
                                  "kormo",        "qwen35",
                                  "stablelm2",    "olmo",
                                  "dbrx",         "smaug-bpe",
                                  "poro-chat",    "glm4",
                                  "chatglm-bpe",  "viking",
                                  "jais",         "jais-2",
                                  "tekken",       "smollm",
                                  "codeshell",    "bloom",
                                  "gpt3-finnish", "exaone",
                                  "exaone4",      "exaone-moe",
                                  "chameleon",    "minerva-7b",
                                  "megrez",       "gpt-4o",
                                  "llama4",       "superbpe",
                                  "trillion",     "granite-docling",
                                  "bailingmoe",   "bailingmoe2",
                                  "llada-moe",    "seed-coder",
                                  "hunyuan",      "hunyuan-dense",
                                  "kimi-k2",      "grok-2",
                                  "afmoe",        "minimax-m2",
                                  "solar-open",   "gemma4"};

} // namespace

class TestSplitRules : public QObject {
    Q_OBJECT

private slots:
    void everyNameHasItsRulesOnce() {
        for (const char* name : kNames)
            QVERIFY2(findNamedSplit(name), name);
        std::set<std::string> seen;
        for (const NamedSplit& row : namedSplits())
            for (const char* name : row.names)
                QVERIFY2(seen.insert(name).second, name);
        QVERIFY(!findNamedSplit("no-such-rules"));
    }

    void flags() {
        const auto is = [](const char* name, bool ignoreMerges, bool addBos) {
            const NamedSplit& row = *findNamedSplit(name);
            return row.ignoreMerges == ignoreMerges && row.addBos == addBos;
        };
        for (const char* name : {"llama-bpe", "lfm2", "falcon3", "pixtral", "tekken"})
            QVERIFY2(is(name, true, true), name);
        for (const char* name : {"youtu", "minicpm5"})
            QVERIFY2(is(name, true, false), name);
        for (const char* name : {"chameleon", "gemma4"})
            QVERIFY2(is(name, false, true), name);
        for (const char* name : {"gpt-2", "qwen2", "falcon", "deepseek-v3", "gpt-4o", "dbrx"})
            QVERIFY2(is(name, false, false), name);
        QVERIFY(!findNamedSplit("gemma4")->byteLevel);
    }

    void words_data() {
        QTest::addColumn<QByteArray>("rules");
        QTest::addColumn<QByteArray>("text");
        QTest::addColumn<QByteArray>("words");
        const auto row = [](const char* rules, const char* text, const char* words) {
            QTest::newRow(rules) << QByteArray(rules) << QByteArray(text) << QByteArray(words);
        };
        row("default", "a+b 1234", "a|+|b| |123|4");
        row("gpt-2", "It's  12345 x\n\n y", "It|'s| | 12345| x|\n\n| y");
        row("llama-bpe", "It's  12345 x\n\n y", "It|'s| | |123|45| x|\n\n| y");
        row("dbrx", "I'LL 1234;\nx", "I|'LL| |123|4|;\n|x");
        row("jais-2", "a        b", "a|    |  | | b");
        row("qwen2", "It's  12345 x\n\n y", "It|'s| | |1|2|3|4|5| x|\n\n| y");
        row("qwen35", "e\u0301a \u0301b", "e\u0301a| \u0301b");
        row("ufakzeka", "Ali'nin", "Ali|'nin");
        row("seed-coder", "a;\n\n12", "a|;|\n\n|1|2");
        row("bailingmoe", "a;\n\n\nb \n\nc", "a|;\n\n\n|b| \n\n|c");
        row("minicpm5", "a 12345", "a| |123|45");
        row("exaone-moe", "a b 1;\n\nc", "a b| |1|;\n|\n|c");
        row("laguna", "a;\nb", "a|;|\n|b");
        row("starcoder", "x 123  y", "x| |1|2|3| | y");
        row("falcon", "a=`b`, 12345", "a|=`|b|`,| |123|45");
        row("bloom", "Hi, you (all).", "Hi|,| you| (|all|).");
        row("viking", "Hi 42!", "Hi| |4|2|!");
        row("tekken", "HelloWORLDx A1", "Hello|WORLDx| A|1");
        row("gpt-4o", "HelloWORLD's 1234//\n", "Hello|WORLD's| |123|4|//\n");
        row("tiny_aya", "a 1234567 x12345y", "a| |1|234|567| x|123|45|y");
        row("kimi-k2", "你好abcABC's カナ", "你好|abc|ABC's| カナ");
        row("youtu", "你好，한국abc 12", "你好|，|한국|abc| |1|2");
        row("deepseek-llm", "a 你好 b1234!?\n  ", "a| |你好| b|1234|!?|\n|  ");
        row("deepseek-coder", "a 你好 b12!?\nx", "a| |你好| b|1|2|!?|\n|x");
        row("deepseek-v3", "a.b 你好カナ1234", "a|.b| |你好カナ|123|4");
        row("spark2_5", "a!\nb", "a|!|\n|b");
        row("afmoe", "1234567 สวัสดี.b", "1|234|567| |สวัสดี|.b");
        row("superbpe", "a 1234567b123", "a |1|234|567|b|123");
        row("chameleon", "IMGIMGABZx  12!", "IMGIMGABZ|x|  |1|2|!");
        row("gemma4", "a b\n\nc", "a b|\n\n|c");
    }
    void words() {
        QFETCH(QByteArray, rules);
        QFETCH(QByteArray, text);
        QFETCH(QByteArray, words);
        const auto compiled = compile(*findNamedSplit(rules.toStdString()));
        QCOMPARE(joined(splitText(text.toStdString(), compiled)), words);
    }

    void whatFilesWriteIsKnownAgain() {
        for (const NamedSplit& row : namedSplits())
            for (const SplitPattern& pattern : row.patterns) {
                const SplitPattern known = knownPattern(spelledPattern(pattern));
                QCOMPARE(known.regex, pattern.regex);
                QCOMPARE(known.fromEnd, pattern.fromEnd);
            }
        // A caseless pattern takes the long s for an s.
        QCOMPARE(knownPattern("(?i:'s|'t|'re|'ve|'m|'ll|'d)|x").regex,
                 std::string("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|x"));
    }

    void patternsOfAnotherEngine_data() {
        QTest::addColumn<QByteArray>("pattern");
        QTest::addColumn<QByteArray>("text");
        QTest::addColumn<QByteArray>("words");
        const auto row = [](const char* pattern, const char* text, const char* words) {
            QTest::newRow(pattern) << QByteArray(pattern) << QByteArray(text) << QByteArray(words);
        };
        row("[^(\\s|[.,]a)]+", "xa.y", "x|a.|y");   // classes inside classes add up
        row("[\\u4e00-\\u9fff]", "a你b", "a|你|b"); // \uXXXX
        row("a$", "ba\nca", "b|a|\nc|a");           // $ is the end of every line
        row("\\s", "a\u180Eb\u3000c", "a\u180Eb|\u3000|c");
        row("\\w+", "e\u0301! x", "e\u0301|! |x"); // marks belong to words
        row("[[:digit:]]+", "a12", "a|12");
        row("[]a]+", "x]a", "x|]a");
        row("(?=B)", "aBcB", "a|Bc|B"); // an empty match cuts
    }
    void patternsOfAnotherEngine() {
        QFETCH(QByteArray, pattern);
        QFETCH(QByteArray, text);
        QFETCH(QByteArray, words);
        const SplitRule rule{std::make_shared<const Regex>(pattern.toStdString(), "test")};
        QCOMPARE(joined(splitText(text.toStdString(), {&rule, 1})), words);
        QVERIFY_THROWS_EXCEPTION(Error, Regex("[a[^b]]", "test"));
    }

    void longRuns_data() {
        QTest::addColumn<int>("row");
        for (size_t i = 0; i < namedSplits().size(); ++i)
            QTest::newRow(namedSplits()[i].names.front()) << int(i);
    }
    void longRuns() {
        QFETCH(int, row);
        const auto rules = compile(namedSplits()[size_t(row)]);
        for (const char* unit :
             {" ", "a", "A", "Aa", "\n", "\r\n", "\t", "7", "=", "'", "\xF0\x9F\xA6\x99", "\u0301",
              "a\u0301", "你", "カ", "\xff", "a ", "= ", "7a"}) {
            std::string text;
            for (int i = 0; i < 100'000; ++i)
                text += unit;
            text += "x"; // what looks ahead to the end of a run finds something else there
            QElapsedTimer timer;
            timer.start();
            size_t bytes = 0;
            for (const std::string_view piece : splitText(text, rules))
                bytes += piece.size();
            QCOMPARE(bytes, text.size());
            QVERIFY2(timer.elapsed() < 3'000, unit); // quadratic time would be minutes
        }
    }
};

QTEST_GUILESS_MAIN(TestSplitRules)
#include "test_split_rules.moc"
