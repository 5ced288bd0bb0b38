// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/base/resources.h"
#include "core/quant/method.h"
#include "tests/runtime/vulkan_support.h"

#include <QFile>
#include <QTest>
#include <nlohmann/json.hpp>

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

std::vector<TokenId> someTokens(int count, int seed) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i)
        tokens.push_back((i * 37 + seed * 11 + i * i) % 256);
    return tokens;
}

/// Two backends round differently: layers of 7 products over at most `width` terms each, with a
/// condition number below 100 for random weights.
double roundingBound(int layers, int width) {
    return 100.0 * 7 * layers * width * 0x1p-24;
}

} // namespace

class TestVulkanModel : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("tiny");

private slots:
    void logits_data() {
        QTest::addColumn<QString>("name");
        for (const char* name :
             {"llama-gqa", "llama-rope-scaled", "qwen2-bias", "qwen3-qknorm", "gemma-1",
              "gemma2-softcap", "gemma3-swa", "phi3-fused", "granite-multipliers", "olmo2-postnorm",
              "smollm3-nope", "mixtral-moe", "qwen3moe"})
            QTest::addRow("%s", name) << QString(name);
    }
    void logits() {
        QFETCH(QString, name);
        NIBBLE_NEED_SHARED("oracles/architectures/llama-gqa.gguf");
        NIBBLE_NEED_LAVAPIPE(backend);
        const std::string base = "oracles/architectures/" + name.toStdString();
        const auto model = openModel(sharedPath((base + ".gguf").c_str()));
        const Npy expected = readNpy(sharedPath((base + ".logits.npy").c_str()));
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
        const double stepError = relativeError(oneByOne, expected.values);
        QVERIFY2(stepError < 1e-3, qPrintable(QString::number(stepError)));
    }

    void goldenText() {
        NIBBLE_NEED_SHARED("models/stories260K-f32.gguf");
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto check = [&](const char* path, const char* golden, int count) {
            const auto model = openModel(sharedPath(path));
            const auto runner = makeRunner(model, placeAll(*model, backend));
            std::vector<TokenId> tokens = model->tokenizer->encode("Once upon a time", false);
            if (model->tokenizer->info().bos >= 0)
                tokens.insert(tokens.begin(), model->tokenizer->info().bos);
            const auto made = greedy(*runner, tokens, count);
            tokens.insert(tokens.end(), made.begin(), made.end());
            const std::string text = model->tokenizer->decode(tokens);
            QVERIFY2(text.find(golden) != std::string::npos, text.c_str());
        };
        check("models/stories260K-f32.gguf",
              ", there was a little girl named Lily. She loved to play outside in the park. One "
              "day, she saw a big, red ball.",
              50);
        check("models/TinyStories-656K/TinyStories-656K-Q8_0.gguf",
              ", a little girl named Lily lived in a small house. She loved to eat yummy food. One "
              "day, she saw a small bird on the ground. The bird was sad because it could not eat "
              "it.\nLily wanted to help the bird. She tried to eat the food and",
              32);
    }

    void halvesAreRotatedTogether() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K/config.json");
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto model = openModel(sharedPath("models/TinyStories-656K"));
        QCOMPARE(model->config.ropeStyle, RopeStyle::Halves);
        const auto tokens = someTokens(20, 3);
        std::vector<std::vector<float>> logits;
        for (const auto& on : {openCpu(CpuMode::Scalar), backend}) {
            const auto runner = makeRunner(model, placeAll(*model, on));
            Session session = runner->newSession();
            logits.push_back(runner->append(session, tokens, true));
        }
        QVERIFY(relativeError(logits[1], logits[0]) < roundingBound(2, 384));
    }

    void threeSessionsInOneCall_data() {
        QTest::addColumn<int>("activations");
        QTest::addColumn<int>("kv");
        QTest::addRow("float f32") << 0 << int(KvFormat::F32);
        QTest::addRow("int8 f16") << 1 << int(KvFormat::F16);
        QTest::addRow("float int8") << 0 << int(KvFormat::Int8);
        QTest::addRow("int8 int4") << 1 << int(KvFormat::Int4);
    }
    void threeSessionsInOneCall() {
        QFETCH(int, activations);
        QFETCH(int, kv);
        NIBBLE_NEED_LAVAPIPE(backend);
        // Codes are kept for heads of whole blocks, which the tiny model's are not.
        const bool coded = kv == int(KvFormat::Int8) || kv == int(KvFormat::Int4);
        const auto model = coded ? openModel(sampleModelPath()) : m_model;
        const auto runner =
            makeRunner(model, placeAll(*model, backend), static_cast<ActivationFormat>(activations),
                       64, static_cast<KvFormat>(kv));
        std::vector<Session> together;
        std::vector<float> expected;
        std::vector<ForwardRow> rows;
        const int lengths[] = {3, 31, 40};
        const int steps[] = {1, 5, 2};
        for (int i = 0; i < 3; ++i) {
            together.push_back(runner->newSession());
            runner->append(together.back(), someTokens(lengths[i], i));
            Session alone = runner->newSession();
            runner->append(alone, someTokens(lengths[i], i));
            const auto logits = runner->append(alone, someTokens(steps[i], 7 + i), true);
            expected.insert(expected.end(), logits.begin(), logits.end());
        }
        for (int i = 0; i < 3; ++i)
            for (const TokenId token : someTokens(steps[i], 7 + i))
                rows.push_back({&together[size_t(i)], token, -1, true});
        std::vector<float> logits;
        runner->forward(rows, {.layers = {},
                               .hiddenIn = {},
                               .hiddenOut = nullptr,
                               .logits = &logits,
                               .tap = nullptr});
        QVERIFY(logits == expected);
        Session fork = together[1].fork();
        const auto branch = runner->append(fork, someTokens(3, 9));
        QVERIFY(runner->append(together[1], someTokens(3, 9)) == branch);
    }

    void anyCutGivesTheSameLogits() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto tokens = someTokens(21, 6);
        const auto run = [&](std::vector<Placement> placement) {
            const auto runner = makeRunner(m_model, std::move(placement));
            Session session = runner->newSession();
            return runner->append(session, tokens, true);
        };
        const auto cpu = openCpu();
        const auto whole = run(placeAll(*m_model, cpu));
        const double bound = roundingBound(2, 160);
        QVERIFY(relativeError(run(placeAll(*m_model, backend)), whole) < bound);
        QVERIFY(relativeError(run({{{0, 1}, cpu}, {{1, 2}, backend}}), whole) < bound);
        QVERIFY(relativeError(run({{{0, 1}, backend}, {{1, 2}, cpu}}), whole) < bound);
    }

    /// Int8 codes with outliers beside them, or with a scale that is given, on both backends.
    void outliersRunBesideTheCodes_data() {
        QTest::addColumn<int>("activations");
        QTest::addColumn<int>("columnsOf"); // every so many-th layer's tensors have some
        QTest::newRow("values") << int(ActivationFormat::Int8Outliers) << 0;
        QTest::newRow("columns") << int(ActivationFormat::Int8Token) << 1;
        QTest::newRow("both") << int(ActivationFormat::Int8Outliers) << 1;
        QTest::newRow("both, not everywhere") << int(ActivationFormat::Int8Outliers) << 2;
        QTest::newRow("static") << int(ActivationFormat::Int8Static) << 0;
    }
    void outliersRunBesideTheCodes() {
        QFETCH(int, activations);
        QFETCH(int, columnsOf);
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto format = static_cast<ActivationFormat>(activations);
        const auto tensorOf = [&](TensorKey key) {
            const Tensor base = m_model->load(key);
            if (!isMatrix(key.role))
                return base;
            QuantizeInput input;
            input.name = base.name;
            input.rows = base.rows;
            input.cols = base.cols;
            input.values = [&](int64_t begin, int64_t end, float* out) {
                decodeRows(base, begin, end, out);
            };
            std::vector<float> most(static_cast<size_t>(base.cols), 1.0f);
            for (size_t i = 3; i < most.size(); i += 13)
                most[i] = 10;
            input.inputMax = most;
            const bool columns = columnsOf == 1 || (columnsOf == 2 && key.role != Role::Key);
            Tensor made =
                quantize(input, getFormat("int8"), getMethod(columns ? "llm_int8" : "rtn"));
            made.inputScale = 0.01f;
            return made;
        };
        std::vector<std::vector<float>> logits;
        for (const auto& on : {openCpu(CpuMode::Scalar), openCpu(), backend}) {
            const auto runner = makeRunner(m_model, placeAll(*m_model, on));
            for (const TensorKey key : m_model->keys())
                runner->setTensor(key, tensorOf(key), {format, 1.0f});
            Session session = runner->newSession();
            logits.push_back(runner->append(session, someTokens(21, 3), true));
            Session stepwise = runner->newSession();
            std::vector<float> oneByOne;
            for (const TokenId token : someTokens(21, 3)) {
                const auto row = runner->append(stepwise, {&token, 1});
                oneByOne.insert(oneByOne.end(), row.begin(), row.end());
            }
            QVERIFY(oneByOne == logits.back());
            QVERIFY(runner->barriersPerLayer() <= 6 || columnsOf == 2);
            for (const PathReport& path : runner->paths())
                if (columnsOf == 1 || format != ActivationFormat::Int8Token)
                    QVERIFY2(path.path.find(columnsOf == 1 ? " outlier columns" : name(format)) !=
                                 std::string::npos,
                             path.path.c_str());
        }
        // A value that rounds to the other side moves its code by one, of 127 steps.
        QVERIFY(relativeError(logits[1], logits[0]) < 1e-2);
        QVERIFY(relativeError(logits[2], logits[0]) < 1e-2);
        // Without what is beside the codes it is another model.
        const auto runner = makeRunner(m_model, placeAll(*m_model, backend));
        for (const TensorKey key : m_model->keys()) {
            Tensor tensor = tensorOf(key);
            tensor.outlierColumns = nullptr;
            tensor.outliers = {};
            runner->setTensor(key, tensor, ActivationFormat::Int8Token);
        }
        Session session = runner->newSession();
        if (columnsOf != 0)
            QVERIFY(relativeError(runner->append(session, someTokens(21, 3), true), logits[0]) >
                    1e-1);
    }

    void everyProductRunsOnTheDevice() {
        NIBBLE_NEED_LAVAPIPE(backend);
        const auto runner = makeRunner(m_model, placeAll(*m_model, backend));
        Session session = runner->newSession();
        runner->append(session, someTokens(3, 1));
        runner->append(session, someTokens(1, 2));
        const auto paths = runner->paths();
        QCOMPARE(paths.size(), size_t(2 * 7 + 2));
        for (const PathReport& path : paths)
            QCOMPARE(path.backend, std::string("vulkan"));
        QVERIFY(runner->barriersPerLayer() > 0);
        QVERIFY(runner->barriersPerLayer() <= 6);
    }
};

QTEST_GUILESS_MAIN(TestVulkanModel)
#include "test_vulkan_model.moc"
