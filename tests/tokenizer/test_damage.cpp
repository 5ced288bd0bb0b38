#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/tokenizer/tokenizer.h"

#include <QtTest>

#include <functional>
#include <limits>

using namespace nibble;

namespace {

using Entries = std::map<std::string, MetadataValue, std::less<>>;

Checkpoint checkpointOf(const char* model) {
    Checkpoint checkpoint;
    checkpoint.container = Checkpoint::Container::Memory;
    checkpoint.metadata.source = "model.gguf";
    Entries& entries = checkpoint.metadata.entries;
    entries["tokenizer.ggml.model"].value = std::string(model);
    entries["tokenizer.ggml.tokens"].value =
        MetadataValue::Strings{"<unk>", "<s>", "</s>", "a", "b", "ab"};
    entries["tokenizer.ggml.scores"].value = MetadataValue::Floats{0, 0, 0, -1, -2, -3};
    entries["tokenizer.ggml.token_type"].value = MetadataValue::Integers{2, 3, 3, 1, 1, 1};
    entries["tokenizer.ggml.merges"].value = MetadataValue::Strings{"a b"};
    return checkpoint;
}

struct Damage {
    const char* name;
    const char* model;
    std::function<void(Entries&)> apply;
    const char* mentions;
};

template <typename T>
std::function<void(Entries&)> put(const char* key, T value) {
    return [=](Entries& entries) { entries["tokenizer.ggml." + std::string(key)].value = value; };
}

std::vector<Damage> damages() {
    using Strings = MetadataValue::Strings;
    using Integers = MetadataValue::Integers;
    using Floats = MetadataValue::Floats;
    const auto erase = [](const char* key) {
        return [=](Entries& entries) { entries.erase("tokenizer.ggml." + std::string(key)); };
    };
    return {
        {"model of another type", "llama", put("model", int64_t(3)), "tokenizer.ggml.model"},
        {"model unknown", "llama", put("model", std::string("t5")), "t5"},
        {"no tokens", "llama", erase("tokens"), "tokens"},
        {"empty tokens", "llama", put("tokens", Strings{}), "no tokens"},
        {"tokens of another type", "llama", put("tokens", Integers{1, 2}), "tokens"},
        {"token too long", "llama",
         put("tokens", Strings{"a", "b", "c", "d", "e", std::string(70'000, 'x')}), "70000"},
        {"fewer scores", "llama", put("scores", Floats{0, 0}), "scores"},
        {"no scores in array", "llama", put("scores", Floats{}), "scores"},
        {"NaN score", "llama",
         put("scores", Floats{0, 0, 0, 0, 0, std::numeric_limits<float>::quiet_NaN()}),
         "not a number"},
        {"scores of another type", "llama", put("scores", Strings{"x"}), "scores"},
        {"more types", "llama", put("token_type", Integers(7, 1)), "token types"},
        {"no types in array", "llama", put("token_type", Integers{}), "token_type"},
        {"type out of range", "llama", put("token_type", Integers{2, 3, 3, 1, 1, 7}), "type 7"},
        {"type enormous", "llama", put("token_type", Integers{2, 3, 3, 1, 1, int64_t(1) << 40}),
         "type"},
        {"types of another type", "gpt2", put("token_type", Strings{"x"}), "token_type"},
        {"byte token of no byte", "llama", put("token_type", Integers{2, 3, 3, 6, 1, 1}), "byte"},
        {"bos out of range", "llama", put("bos_token_id", int64_t(6)), "beginning"},
        {"eos out of range", "gpt2", put("eos_token_id", int64_t(1) << 33), "eos_token_id"},
        {"eot out of range", "gpt2", put("eot_token_id", int64_t(999)), "999"},
        {"unknown negative", "llama", put("unknown_token_id", int64_t(-7)), "unknown_token_id"},
        {"bos of another type", "llama", put("bos_token_id", std::string("<s>")), "bos_token_id"},
        {"add_bos of another type", "llama", put("add_bos_token", std::string("yes")),
         "add_bos_token"},
        {"no merges", "gpt2", erase("merges"), "merges"},
        {"merge without a space", "gpt2", put("merges", Strings{"a b", "ab"}), "merge 1"},
        {"merge with an empty side", "gpt2", put("merges", Strings{"a "}), "merge 0"},
        {"empty merge", "gpt2", put("merges", Strings{""}), "merge 0"},
        {"merges of another type", "gpt2", put("merges", Integers{1}), "merges"},
        {"pre-tokenizer of another type", "gpt2", put("pre", int64_t(1)), "tokenizer.ggml.pre"},
    };
}

} // namespace

class TestDamage : public QObject {
    Q_OBJECT

private slots:
    void undamagedOpens() {
        QVERIFY(openTokenizer(checkpointOf("llama")));
        QVERIFY(openTokenizer(checkpointOf("gpt2")));
    }

    void withoutVocabularyThereIsNone() {
        Checkpoint checkpoint = checkpointOf("none");
        QVERIFY(!openTokenizer(checkpoint));
        checkpoint.metadata.entries.clear();
        QVERIFY(!openTokenizer(checkpoint));
    }

    void damaged_data() {
        QTest::addColumn<int>("index");
        const auto all = damages();
        for (size_t i = 0; i < all.size(); ++i)
            QTest::newRow(all[i].name) << int(i);
    }
    void damaged() {
        QFETCH(int, index);
        const Damage damage = damages()[size_t(index)];
        Checkpoint checkpoint = checkpointOf(damage.model);
        damage.apply(checkpoint.metadata.entries);
        try {
            openTokenizer(checkpoint);
            QFAIL("accepted");
        } catch (const Error& error) {
            QCOMPARE(int(error.kind()), int(ErrorKind::BadInput));
            QVERIFY2(QByteArray(error.what()).contains(damage.mentions), error.what());
        }
    }
};

QTEST_GUILESS_MAIN(TestDamage)
#include "test_damage.moc"
