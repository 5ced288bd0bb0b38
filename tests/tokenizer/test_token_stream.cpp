#include "tests/tokenizer/oracle_cases.h"

#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/utf8.h"

using namespace nibble;
using namespace nibble::test;
using Ids = std::vector<TokenId>;

namespace {

std::shared_ptr<const Tokenizer> bytesOnly() {
    std::vector<std::string> tokens(byteLevelCharacters().begin(), byteLevelCharacters().end());
    return makeBpeTokenizer(std::move(tokens), {}, {}, "gpt-2", {});
}

std::shared_ptr<const Tokenizer> spm() {
    Checkpoint checkpoint;
    checkpoint.container = Checkpoint::Container::Memory;
    auto& entries = checkpoint.metadata.entries;
    entries["tokenizer.ggml.model"].value = std::string("llama");
    entries["tokenizer.ggml.tokens"].value = MetadataValue::Strings{"<unk>", "<s>", "</s>",
                                                                    "\xE2\x96\x81"
                                                                    "a",
                                                                    "\xE2\x96\x81"};
    entries["tokenizer.ggml.token_type"].value = MetadataValue::Integers{2, 3, 3, 1, 1};
    return openTokenizer(checkpoint);
}

bool wholeCharacters(std::string_view text) {
    for (; !text.empty(); text.remove_prefix(firstCharacter(text).length))
        if (firstCharacter(text).kind != Utf8::Character)
            return false;
    return true;
}

} // namespace

class TestTokenStream : public QObject {
    Q_OBJECT

private slots:
    void neverHalfACharacter() {
        const auto tokenizer = bytesOnly();
        const std::string text = mixedText(5'000);
        TokenStream stream(tokenizer);
        std::string all;
        for (const TokenId id : tokenizer->encode(text, false)) {
            const std::string part = stream.push(id);
            QVERIFY(wholeCharacters(part));
            all += part;
        }
        QCOMPARE(stream.finish(), std::string());
        QCOMPARE(all, text);
    }

    void invalidBytesAreReplaced_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QByteArray>("expected");
        QTest::newRow("stray continuation") << QByteArray("a\x80"
                                                          "b")
                                            << QByteArray("a\xEF\xBF\xBD"
                                                          "b");
        QTest::newRow("never a lead") << QByteArray("\xff") << QByteArray("\xEF\xBF\xBD");
        QTest::newRow("cut in the middle") << QByteArray("\xE2\x82"
                                                         "b")
                                           << QByteArray("\xEF\xBF\xBD"
                                                         "b");
        QTest::newRow("cut at the end")
            << QByteArray("b\xF0\x9F\xA6") << QByteArray("b\xEF\xBF\xBD");
        QTest::newRow("surrogate")
            << QByteArray("\xED\xA0\x80") << QByteArray("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
        QTest::newRow("overlong") << QByteArray("\xC0\xAF")
                                  << QByteArray("\xEF\xBF\xBD\xEF\xBF\xBD");
        QTest::newRow("above U+10FFFF")
            << QByteArray("\xF4\x90") << QByteArray("\xEF\xBF\xBD\xEF\xBF\xBD");
    }
    void invalidBytesAreReplaced() {
        QFETCH(QByteArray, bytes);
        QFETCH(QByteArray, expected);
        TokenStream stream(bytesOnly());
        std::string all;
        for (const char c : bytes) {
            const std::string part = stream.push(static_cast<unsigned char>(c));
            QVERIFY(wholeCharacters(part));
            all += part;
        }
        all += stream.finish();
        QCOMPARE(QByteArray::fromStdString(all), expected);
        QCOMPARE(QByteArray::fromStdString(replaceInvalid(bytes.toStdString())), expected);
    }

    void onlyTheAddedSpaceIsLeftOut() {
        TokenStream start(spm());
        QCOMPARE(start.push(1), std::string()); // control tokens show nothing
        QCOMPARE(start.push(3), std::string("a"));
        QCOMPARE(start.push(3), std::string(" a"));
        QCOMPARE(start.push(999), std::string());
        QCOMPARE(start.push(2), std::string());
        QCOMPARE(start.push(3), std::string(" a"));

        TokenStream spaces(spm());
        QCOMPARE(spaces.push(4), std::string());
        QCOMPARE(spaces.push(3), std::string(" a"));

        TokenStream continued(spm(), 3);
        QCOMPARE(continued.push(3), std::string(" a"));
    }

    void streamEqualsDecode() {
        NIBBLE_NEED_SHARED("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        const auto tokenizer = openShared("oracles/tokenizers/ggml-vocab-llama-spm.gguf");
        for (const OracleCase& oracle :
             readOracle("oracles/tokenizers/ggml-vocab-llama-spm.gguf")) {
            TokenStream stream(tokenizer);
            std::string all;
            for (const TokenId id : oracle.ids)
                all += stream.push(id);
            all += stream.finish();
            QCOMPARE(all, oracle.text);
        }
    }
};

QTEST_GUILESS_MAIN(TestTokenStream)
#include "test_token_stream.moc"
