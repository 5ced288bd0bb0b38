#include "tests/runtime/run_support.h"

#include <QFile>
#include <QTest>
#include <nlohmann/json.hpp>

#include <cstring>

using namespace nibble;
using namespace nibble::test;

namespace {

std::vector<TokenId> oraclePrompt() {
    QFile file(QString::fromStdString(sharedPath("oracles/architectures/tokens.json").string()));
    if (!file.open(QIODevice::ReadOnly))
        return {};
    return nlohmann::json::parse(file.readAll().toStdString())["tokens"]
        .get<std::vector<TokenId>>();
}

std::string greedyText(const Model& model, Runner& runner, const char* prompt, int count) {
    std::vector<TokenId> tokens = model.tokenizer->encode(prompt, false);
    if (model.tokenizer->info().bos >= 0)
        tokens.insert(tokens.begin(), model.tokenizer->info().bos);
    const auto made = greedy(runner, tokens, count);
    tokens.insert(tokens.end(), made.begin(), made.end());
    return model.tokenizer->decode(tokens);
}

} // namespace

class TestOracles : public QObject {
    Q_OBJECT
private slots:
    void logits_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<bool>("simd");
        for (const char* name :
             {"llama-gqa", "llama-rope-scaled", "qwen2-bias", "qwen3-qknorm", "gemma-1",
              "gemma2-softcap", "gemma3-swa", "phi3-fused", "granite-multipliers", "olmo2-postnorm",
              "smollm3-nope", "mixtral-moe", "qwen3moe"})
            for (const bool simd : {false, true})
                QTest::addRow("%s %s", name, simd ? "simd" : "scalar") << QString(name) << simd;
    }
    void logits() {
        QFETCH(QString, name);
        QFETCH(bool, simd);
        NIBBLE_NEED_SHARED("oracles/architectures/llama-gqa.gguf");
        const std::string base = "oracles/architectures/" + name.toStdString();
        const auto model = openModel(sharedPath((base + ".gguf").c_str()));
        QCOMPARE(model->unsupported, std::string());
        const Npy expected = readNpy(sharedPath((base + ".logits.npy").c_str()));
        const auto backend = openCpu(simd ? CpuMode::Simd : CpuMode::Scalar);
        const std::vector<TokenId> prompt = oraclePrompt();

        const auto runner = makeRunner(model, placeAll(*model, backend));
        Session whole = runner->newSession();
        const std::vector<float> atOnce = runner->append(whole, prompt, true);
        const double error = relativeError(atOnce, expected.values);
        QVERIFY2(error < 1e-3, qPrintable(QString::number(error)));

        Session stepwise = runner->newSession();
        std::vector<float> oneByOne;
        for (const TokenId token : prompt) {
            const auto row = runner->append(stepwise, {&token, 1});
            oneByOne.insert(oneByOne.end(), row.begin(), row.end());
        }
        QVERIFY(oneByOne == atOnce);

        const auto small = makeRunner(model, placeAll(*model, backend), ActivationFormat::Float, 7);
        Session chunked = small->newSession();
        QVERIFY(small->append(chunked, prompt, true) == atOnce);
    }

    void goldenText_data() {
        QTest::addColumn<bool>("simd");
        QTest::addRow("scalar") << false;
        QTest::addRow("simd") << true;
    }
    void goldenText() {
        QFETCH(bool, simd);
        NIBBLE_NEED_SHARED("models/stories260K-f32.gguf");
        const auto backend = openCpu(simd ? CpuMode::Simd : CpuMode::Scalar);
        {
            const auto model = openModel(sharedPath("models/stories260K-f32.gguf"));
            const auto runner = makeRunner(model, placeAll(*model, backend));
            const std::string golden =
                "Once upon a time, there was a little girl named Lily. She loved to play outside "
                "in the park. One day, she saw a big, red ball.";
            const std::string text = greedyText(*model, *runner, "Once upon a time", 50);
            QVERIFY2(text.find(golden) != std::string::npos, text.c_str());
        }
        const auto model =
            openModel(sharedPath("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf"));
        const auto runner = makeRunner(model, placeAll(*model, backend));
        const std::string golden =
            "Once upon a time, a little girl named Lily lived in a small house. She loved to eat "
            "yummy food. One day, she saw a small bird on the ground. The bird was sad because it "
            "could not eat it.\nLily wanted to help the bird. She tried to eat the food and ";
        const std::string text = greedyText(*model, *runner, "Once upon a time", 32);
        // The golden text ends with the space of a word piece, which a decoder may keep back.
        QVERIFY2(text.find(golden.substr(0, golden.size() - 1)) != std::string::npos, text.c_str());
    }

    /// The folder keeps q and k in halves order, the GGUF file has their rows reordered: the same
    /// model must come out, up to the rounding of Q8_0.
    void folderEqualsGguf() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/config.json");
        const auto folder = openModel(sharedPath("models/TinyStories-656K"));
        const auto file =
            openModel(sharedPath("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf"));
        QCOMPARE(folder->config.ropeStyle, RopeStyle::Halves);
        QCOMPARE(file->config.ropeStyle, RopeStyle::Interleaved);
        const auto prompt = file->tokenizer->encode("Once upon a time, a girl saw a bird", false);
        QVERIFY(prompt.size() > 5);
        std::vector<std::vector<float>> logits;
        for (const auto& model : {folder, file}) {
            const auto runner = makeRunner(model, placeAll(*model, openCpu()));
            Session session = runner->newSession();
            logits.push_back(runner->append(session, prompt, true));
        }
        // Each of the 2 × 7 products and the head adds the relative error of 8-bit codes, at most
        // half a step of the largest of 32 values: below 1/127 each, independent of one another.
        const double bound = std::sqrt(2.0 * 7 + 1) / 127;
        const double error = relativeError(logits[1], logits[0]);
        QVERIFY2(error < bound, qPrintable(QString::number(error)));
        // A wrong rotation changes the logits far more than that.
        QVERIFY(error > 0);
    }
};

QTEST_GUILESS_MAIN(TestOracles)
#include "test_oracles.moc"
