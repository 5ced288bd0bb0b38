#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/utf8.h"

#include <random>

using namespace nibble;
using namespace nibble::test;
using Ids = std::vector<TokenId>;

namespace {

const std::string kSpace(kSpmSpace);

std::vector<std::string> charactersOf(std::string_view text) {
    std::vector<std::string> characters;
    for (; !text.empty(); text.remove_prefix(characters.back().size()))
        characters.emplace_back(text.substr(0, firstCharacter(text).length));
    return characters;
}

/// The definitions, word for word: of all neighbours the best pair merges, the leftmost of equals,
/// one at a time. `best` gives a pair's rank; the smallest is first, a negative one never.
template <typename Rank>
void mergeNaively(std::vector<std::string>& parts, Rank&& rank) {
    for (;;) {
        double best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i)
            if (const double found = rank(parts[i], parts[i + 1]);
                found >= 0 && (best < 0 || found < best)) {
                best = found;
                at = i;
            }
        if (best < 0)
            return;
        parts[at] += parts[at + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
}

/// Random text of many scripts, with runs, and where asked for with bytes that are no text.
std::string randomText(std::mt19937& random, bool invalid) {
    static const char* const kParts[] = {"a",
                                         "b",
                                         "ab",
                                         "aa",
                                         "bb",
                                         " ",
                                         "  ",
                                         "\n",
                                         "1",
                                         "12",
                                         ".",
                                         "'s",
                                         "\u00e9",
                                         "e\u0301",
                                         "你",
                                         "好",
                                         "カ",
                                         "한",
                                         "\xF0\x9F\xA6\x99",
                                         "\u3000",
                                         "\u2581",
                                         "\t",
                                         "ж",
                                         "A"};
    static const char* const kInvalid[] = {"\xff", "\xc3", "\xe4\xbd", "\x80", "\xed\xa0\x80"};
    std::string text;
    for (auto parts = random() % 24; parts > 0; --parts) {
        const bool broken = invalid && random() % 6 == 0;
        text += broken ? kInvalid[random() % std::size(kInvalid)]
                       : kParts[random() % std::size(kParts)];
    }
    return text;
}

/// Tokens and merges made of random pairs of what there is already.
struct RandomMerges {
    std::vector<std::string> tokens, merges;
    std::map<std::string, size_t> ranks;

    RandomMerges(std::mt19937& random, std::vector<std::string> base, int count)
        : tokens(std::move(base)) {
        for (int i = 0; i < count; ++i) {
            // The first ones are bytes of letters, so that texts have them.
            const auto pick = [&] {
                return tokens[random() % 4 ? pool[random() % pool.size()]
                                           : random() % tokens.size()];
            };
            if (pool.empty())
                for (size_t id = 0; id < tokens.size(); ++id)
                    if (tokens[id] == "a" || tokens[id] == "b" || tokens[id] == kSpace ||
                        tokens[id] == "1" || tokens[id] == byteLevelCharacters()[' '])
                        pool.push_back(id);
            const std::string left = pick(), right = pick();
            if (std::ranges::find(tokens, left + right) != tokens.end())
                continue;
            ranks.emplace(left + " " + right, merges.size());
            merges.push_back(left + " " + right);
            pool.push_back(tokens.size());
            tokens.push_back(left + right);
        }
    }
    std::vector<size_t> pool;

    double rank(const std::string& left, const std::string& right) const {
        const auto found = ranks.find(left + " " + right);
        return found == ranks.end() ? -1 : double(found->second);
    }
    TokenId id(const std::string& text) const {
        const auto at = std::ranges::find(tokens, text);
        return at == tokens.end() ? -1 : static_cast<TokenId>(at - tokens.begin());
    }
};

} // namespace

class TestNaive : public QObject {
    Q_OBJECT

private slots:
    void byteLevelMergesAsDefined() {
        std::mt19937 random(1);
        for (int round = 0; round < 20; ++round) {
            const RandomMerges made(
                random, {byteLevelCharacters().begin(), byteLevelCharacters().end()}, 60);
            const auto tokenizer = makeBpeTokenizer(made.tokens, {}, made.merges, "bloom", {});
            for (int i = 0; i < 100; ++i) {
                const std::string text = randomText(random, i % 2);
                // bloom's words: runs without these, a space before them; else what lies between.
                Ids expected;
                const auto encodeWord = [&](std::string_view word) {
                    std::vector<std::string> parts;
                    for (const char c : word)
                        parts.push_back(byteLevelCharacters()[static_cast<unsigned char>(c)]);
                    mergeNaively(parts,
                                 [&](const auto& l, const auto& r) { return made.rank(l, r); });
                    for (const std::string& part : parts)
                        expected.push_back(made.id(part));
                };
                std::string word;
                const auto isPlain = [](const std::string& c) {
                    return firstCharacter(c).kind == Utf8::Character && c != " " && c != "\n" &&
                           c != "\t" && c != "\u3000" && c != ".";
                };
                enum { None, Plain, Gap, Broken } in = None;
                const auto characters = charactersOf(text);
                for (size_t at = 0; at < characters.size(); ++at) {
                    const std::string& c = characters[at];
                    const bool broken = firstCharacter(c).kind != Utf8::Character;
                    const bool opens =
                        c == " " && at + 1 < characters.size() && isPlain(characters[at + 1]);
                    const auto kind = broken ? Broken : isPlain(c) || opens ? Plain : Gap;
                    if (kind != in || broken || opens) {
                        encodeWord(word);
                        word.clear();
                    }
                    word += c;
                    in = kind;
                }
                encodeWord(word);
                const Ids found = tokenizer->encode(text, false);
                QVERIFY2(found == expected,
                         qPrintable(QString::fromStdString(printable(text)) + "\n found " +
                                    describeIds(found) + "\n expected " + describeIds(expected)));
                QCOMPARE(tokenizer->decode(found), text);
            }
        }
    }

    void scoresMergeAsDefined_data() {
        QTest::addColumn<bool>("bytes");
        QTest::newRow("with byte tokens") << true;
        QTest::newRow("without") << false;
    }
    void scoresMergeAsDefined() {
        QFETCH(bool, bytes);
        std::mt19937 random(2);
        for (int round = 0; round < 20; ++round) {
            std::vector<std::string> base = {"<unk>", "<s>", "</s>"};
            MetadataValue::Integers types = {2, 3, 3};
            for (int byte = 0; byte < 256 && bytes; ++byte) {
                base.push_back(fmt::format("<0x{:02X}>", byte));
                types.push_back(6);
            }
            for (const char* c : {"a", "b", "1", ".", "你", "\u00e9", "ж"})
                base.push_back(c);
            base.push_back(kSpace);
            const RandomMerges made(random, base, 60);
            types.resize(made.tokens.size(), 1);
            std::map<std::string, float> scores;
            MetadataValue::Floats stored;
            for (size_t id = 0; id < made.tokens.size(); ++id) {
                stored.push_back(-static_cast<float>(random() % 40)); // with equal ones among them
                if (types[id] == 1)
                    scores[made.tokens[id]] = stored.back();
            }
            Checkpoint checkpoint;
            auto& entries = checkpoint.metadata.entries;
            entries["tokenizer.ggml.model"].value = std::string("llama");
            entries["tokenizer.ggml.tokens"].value = made.tokens;
            entries["tokenizer.ggml.scores"].value = stored;
            entries["tokenizer.ggml.token_type"].value = types;
            const auto tokenizer = openTokenizer(checkpoint);
            for (int i = 0; i < 100; ++i) {
                const std::string text = randomText(random, i % 2);
                std::vector<std::string> parts =
                    charactersOf(text.empty() ? "" : kSpace + replaceAll(text, " ", kSpace));
                mergeNaively(parts, [&](const auto& l, const auto& r) -> double {
                    const auto found = scores.find(l + r);
                    return found == scores.end() ? -1 : -double(found->second);
                });
                Ids expected;
                for (const std::string& part : parts) {
                    if (scores.contains(part))
                        expected.push_back(made.id(part));
                    else if (!bytes)
                        expected.push_back(0);
                    else
                        for (const char c : part)
                            expected.push_back(3 + static_cast<unsigned char>(c));
                }
                const Ids found = tokenizer->encode(text, false);
                QVERIFY2(found == expected,
                         qPrintable(QString::fromStdString(printable(text)) + "\n found " +
                                    describeIds(found) + "\n expected " + describeIds(expected)));
                if (bytes)
                    QCOMPARE(tokenizer->decode(found), replaceAll(text, kSpace, " "));
            }
        }
    }

    void everyVocabularyReturnsEveryText_data() {
        QTest::addColumn<QByteArray>("path");
        for (const char* path : {"ggml-vocab-gpt-2.gguf", "ggml-vocab-llama-spm.gguf",
                                 "ggml-vocab-phi-3.gguf", "llama3", "qwen2.5", "smollm2"})
            QTest::newRow(path) << QByteArray("oracles/tokenizers/") + path;
    }
    void everyVocabularyReturnsEveryText() {
        QFETCH(QByteArray, path);
        NIBBLE_NEED_SHARED(path.constData());
        const auto file = sharedPath(path.constData());
        const auto tokenizer = std::filesystem::is_directory(file)
                                   ? openTokenizerFile(findTokenizerFile(file))
                                   : openTokenizer(*openCheckpoint(file));
        std::mt19937 random(3);
        for (int i = 0; i < 300; ++i) {
            std::string text = randomText(random, i % 2);
            if (path.contains("spm") || path.contains("phi"))
                text = replaceAll(text, kSpace, " "); // there it stands for a space
            if (path.contains("smollm"))              // it has no byte FF
                text = replaceAll(replaceAll(text, "\xff", ""), "\xed\xa0\x80", "");
            const Ids ids = tokenizer->encode(text, i % 3);
            QCOMPARE(tokenizer->decode(ids), text);
            TokenStream stream(tokenizer);
            std::string streamed;
            for (const TokenId id : ids) {
                const std::string part = stream.push(id);
                QCOMPARE(replaceInvalid(part), part); // never half a character
                streamed += part;
            }
            streamed += stream.finish();
            QCOMPARE(streamed, replaceInvalid(text));
            // Any tokens at all, in any order.
            TokenStream shuffled(tokenizer);
            Ids any;
            streamed.clear();
            for (int n = 0; n < 20; ++n) {
                any.push_back(static_cast<TokenId>(random()) % (tokenizer->info().size + 5));
                streamed += shuffled.push(any.back());
            }
            streamed += shuffled.finish();
            QCOMPARE(streamed, replaceInvalid(tokenizer->decode(any)));
        }
        reportSpeed(*tokenizer, path.constData());
        for (const char* unit : {" ", "a", "\n", "\xF0\x9F\xA6\x99", "\u0301", "7", "="}) {
            std::string text;
            for (int i = 0; i < 100'000; ++i)
                text += unit;
            QElapsedTimer timer;
            timer.start();
            QCOMPARE(tokenizer->decode(tokenizer->encode(text, true)), text);
            QVERIFY2(timer.elapsed() < 5'000, unit); // quadratic time would be minutes
        }
    }
};

QTEST_GUILESS_MAIN(TestNaive)
#include "test_naive.moc"
