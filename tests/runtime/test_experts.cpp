// ctest: TIMEOUT=300 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
// Mixtures whose experts run apart from the rest of their layers.
#include "core/base/error.h"
#include "core/runtime/memory.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/mixture_model.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <nlohmann/json.hpp>

#include <fstream>
#include <tuple>

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

std::vector<TokenId> someTokens(int count) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i)
        tokens.push_back((i * 29 + 7 * i * i + 3) % 64);
    return tokens;
}

struct Apart {
    std::vector<Placement> placement;
    LayerRange experts;
    std::shared_ptr<Backend> backend;
};

std::unique_ptr<Runner> makeApart(std::shared_ptr<const Model> model, const Apart& apart,
                                  int32_t maxRows = 64) {
    RunOptions options;
    options.placement = apart.placement;
    options.expertLayers = apart.experts;
    options.expertBackend = apart.backend;
    options.context = 128;
    options.sessions = 4;
    options.maxRows = maxRows;
    options.kFormat = options.vFormat = KvFormat::F32;
    auto runner = std::make_unique<Runner>(model, options);
    for (const TensorKey key : model->keys())
        runner->setTensor(key, model->load(key));
    return runner;
}

std::vector<float> atOnce(Runner& runner, const std::vector<TokenId>& tokens) {
    Session session = runner.newSession();
    return runner.append(session, tokens, true);
}

std::vector<float> oneByOne(Runner& runner, const std::vector<TokenId>& tokens) {
    Session session = runner.newSession();
    std::vector<float> all;
    for (const TokenId token : tokens) {
        const auto row = runner.append(session, {&token, 1});
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

/// No experts, some layers', all.
std::vector<LayerRange> ranges(const Model& model) {
    const int32_t n = model.config.layers;
    return {{0, 0}, {n - 1, n}, {0, 1}, {0, n}};
}

struct Note {
    TapSite::What what;
    TensorKey key;
    int32_t rows;
    std::vector<float> values;
    bool operator==(const Note&) const = default;
};

class Recorder : public Tap {
public:
    bool wants(const TapSite&) const override { return true; }
    void values(const TapSite& site, int32_t rows, int32_t width, const float* v) override {
        notes.push_back({site.what, site.key, rows, {v, v + int64_t(rows) * width}});
    }
    std::vector<Note> notes;
};

/// Stops a pass when the tap has heard of a layer's output.
class Stopper : public Tap {
public:
    explicit Stopper(std::atomic<bool>& stop) : m_stop(stop) {}
    bool wants(const TapSite& site) const override {
        return site.what == TapSite::What::LayerOutput && site.key.layer == 1;
    }
    void values(const TapSite&, int32_t, int32_t, const float*) override { m_stop = true; }

private:
    std::atomic<bool>& m_stop;
};

} // namespace

class TestExperts : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;
    std::shared_ptr<const Model> m_model;

    std::vector<float> whole(const std::vector<TokenId>& tokens) {
        return atOnce(*makeRunner(m_model, placeAll(*m_model, openCpu())), tokens);
    }

private slots:
    void initTestCase() {
        const std::filesystem::path path = m_folder.filePath("mixture.gguf").toStdString();
        std::ofstream(path, std::ios::binary) << mixtureModel({});
        m_model = openModel(path);
        QCOMPARE(m_model->unsupported, std::string());
        QCOMPARE(m_model->config.experts, 8);
    }

    void oracles_data() {
        QTest::addColumn<QString>("name");
        QTest::addRow("mixtral-moe") << "mixtral-moe";
        QTest::addRow("qwen3moe") << "qwen3moe";
    }
    /// On one kind of device the cut changes not a bit.
    void oracles() {
        QFETCH(QString, name);
        NIBBLE_NEED_SHARED("oracles/architectures/mixtral-moe.gguf");
        const std::string base = "oracles/architectures/" + name.toStdString();
        const auto model = openModel(sharedPath((base + ".gguf").c_str()));
        const Npy expected = readNpy(sharedPath((base + ".logits.npy").c_str()));
        const std::vector<TokenId> prompt = oraclePrompt();
        const auto cpu = openCpu();
        const auto all = atOnce(*makeRunner(model, placeAll(*model, cpu)), prompt);
        QVERIFY(relativeError(all, expected.values) < 1e-3);
        for (const LayerRange range : ranges(*model)) {
            const Apart apart{placeAll(*model, cpu), range, range.end > 0 ? cpu : nullptr};
            const auto runner = makeApart(model, apart);
            QVERIFY(atOnce(*runner, prompt) == all);
            QVERIFY(oneByOne(*runner, prompt) == all);
            QVERIFY(atOnce(*makeApart(model, apart, 7), prompt) == all);
        }
    }

    void oraclesOnVulkan_data() { oracles_data(); }
    void oraclesOnVulkan() {
        QFETCH(QString, name);
        NIBBLE_NEED_SHARED("oracles/architectures/mixtral-moe.gguf");
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const std::string base = "oracles/architectures/" + name.toStdString();
        const auto model = openModel(sharedPath((base + ".gguf").c_str()));
        const Npy expected = readNpy(sharedPath((base + ".logits.npy").c_str()));
        const std::vector<TokenId> prompt = oraclePrompt();
        const auto cpu = openCpu();
        const auto check = [&](const std::vector<float>& logits) {
            const double error = relativeError(logits, expected.values);
            QVERIFY2(error < 1e-3, qPrintable(QString::number(error)));
        };
        for (const auto& [mixers, experts] :
             {std::pair{vulkan, cpu}, std::pair{cpu, vulkan}, std::pair{vulkan, vulkan}})
            for (const LayerRange range : ranges(*model)) {
                if (range.end == 0)
                    continue; // tested as a whole elsewhere
                const Apart apart{placeAll(*model, mixers), range, experts};
                const auto runner = makeApart(model, apart);
                check(atOnce(*runner, prompt));
                check(oneByOne(*runner, prompt));
                check(atOnce(*makeApart(model, apart, 7), prompt));
            }
    }

    /// Whole layers on the CPU behind those whose experts alone are there.
    void besideWholeLayers() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto cpu = openCpu();
        const auto tokens = someTokens(40);
        const auto expected = whole(tokens);
        for (const auto& first : {cpu, vulkan}) {
            const Apart apart{{{{0, 3}, first}, {{3, 4}, cpu}}, {1, 3}, cpu};
            const auto runner = makeApart(m_model, apart, 16);
            const auto logits = atOnce(*runner, tokens);
            // Sums of at most 96 terms in float, in 4 layers of 7 products that follow each other.
            const double bound = first == cpu ? 0 : 4 * 7 * 96 * 0x1p-24;
            const double error = relativeError(logits, expected);
            QVERIFY2(error <= bound, qPrintable(QString::number(error)));
        }
    }

    void tapsHearTheSame() {
        const auto cpu = openCpu();
        const auto tokens = someTokens(9);
        std::vector<std::vector<Note>> heard;
        for (const LayerRange range : {LayerRange{0, 0}, LayerRange{1, 3}, LayerRange{0, 4}}) {
            const auto runner =
                makeApart(m_model, {placeAll(*m_model, cpu), range, range.end > 0 ? cpu : nullptr});
            Session session = runner->newSession();
            Recorder recorder;
            runner->append(session, tokens, true, &recorder);
            heard.push_back(recorder.notes);
        }
        QVERIFY(heard[0].size() > 4 * 4);
        QVERIFY(heard[1] == heard[0]);
        QVERIFY(heard[2] == heard[0]);
    }

    void tapsHearTheSameOnVulkan() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto tokens = someTokens(9);
        const auto listen = [&](const Apart& apart) {
            const auto runner = makeApart(m_model, apart);
            Session session = runner->newSession();
            Recorder recorder;
            runner->append(session, tokens, true, &recorder);
            // Within a layer a device tells of all experts' gates first, the CPU of one expert
            // after the other.
            std::ranges::stable_sort(recorder.notes, {}, [](const Note& note) {
                return std::tuple(note.key.layer, note.what, note.key);
            });
            return recorder.notes;
        };
        const auto expected = listen({placeAll(*m_model, vulkan), {}, nullptr});
        const auto heard = listen({placeAll(*m_model, vulkan), {1, 4}, openCpu()});
        QCOMPARE(heard.size(), expected.size());
        for (size_t i = 0; i < heard.size(); ++i) {
            QVERIFY(heard[i].what == expected[i].what && heard[i].key == expected[i].key);
            QVERIFY(relativeError(heard[i].values, expected[i].values) < 4 * 7 * 96 * 0x1p-24);
        }
    }

    void passesOverSomeLayersJoin() {
        const auto cpu = openCpu();
        const auto tokens = someTokens(20);
        const auto expected = whole(tokens);
        const auto runner = makeApart(m_model, {placeAll(*m_model, cpu), {0, 4}, cpu}, 8);
        Session session = runner->newSession();
        std::vector<ForwardRow> rows;
        for (size_t i = 0; i < tokens.size(); ++i)
            rows.push_back({&session, tokens[i], int32_t(i), true});
        std::vector<float> hidden, next, logits;
        ForwardIo io;
        io.layers = {0, 2};
        io.hiddenOut = &hidden;
        runner->forward(rows, io);
        io.layers = {2, 3};
        io.hiddenIn = hidden;
        io.hiddenOut = &next;
        runner->forward(rows, io);
        io.layers = {3, 4};
        io.hiddenIn = next;
        io.hiddenOut = &hidden; // of the last layer, which the head on the other stage follows
        io.logits = &logits;
        runner->forward(rows, io);
        QVERIFY(logits == expected);
        Recorder recorder;
        Session again = runner->newSession();
        runner->append(again, tokens, true, &recorder);
        std::vector<float> last;
        for (const Note& note : recorder.notes)
            if (note.what == TapSite::What::LayerOutput && note.key.layer == 3)
                last.insert(last.end(), note.values.begin(), note.values.end());
        QVERIFY(hidden == last);
    }

    void forksAndTruncatedSessionsGoOn() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto tokens = someTokens(70);
        const std::span<const TokenId> all(tokens);
        for (const auto& mixers : {openCpu(), vulkan}) {
            const auto runner =
                makeApart(m_model, {placeAll(*m_model, mixers), {0, 4}, openCpu()}, 16);
            Session first = runner->newSession();
            const auto expected = runner->append(first, all);
            first.truncate(45);
            Session second = first.fork();
            runner->append(second, all.first(5));
            const double bound = 4 * 7 * 96 * 0x1p-24;
            QVERIFY(relativeError(runner->append(first, all.subspan(45)), expected) <= bound);
            second.truncate(45);
            QVERIFY(relativeError(runner->append(second, all.subspan(45)), expected) <= bound);
        }
    }

    void aPassIsCancelledBetweenLayers() {
        const auto cpu = openCpu();
        const auto tokens = someTokens(20);
        const auto runner = makeApart(m_model, {placeAll(*m_model, cpu), {0, 4}, cpu});
        Session session = runner->newSession();
        runner->append(session, std::span(tokens).first(12));
        std::atomic<bool> cancel = false;
        Stopper stopper(cancel);
        QVERIFY_EXCEPTION_THROWN(
            runner->append(session, std::span(tokens).subspan(12), false, &stopper, &cancel),
            Error);
        QCOMPARE(session.length(), 12);
        const auto logits = runner->append(session, std::span(tokens).subspan(12), true);
        const auto expected = whole(tokens);
        QVERIFY(std::equal(logits.begin(), logits.end(), expected.end() - ssize_t(logits.size())));
    }

    /// What was said before loading is what is taken, and experts take nothing of the device that
    /// they are not on.
    void memoryIsAsPredicted() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto cpu = openCpu();
        const uint64_t each = MixtureShape{}.expertBytes();
        for (const auto& mixers : {cpu, vulkan})
            for (const LayerRange range : ranges(*m_model)) {
                const Apart apart{placeAll(*m_model, mixers), range, range.end > 0 ? cpu : nullptr};
                const auto runner = makeApart(m_model, apart);
                const auto predicted =
                    predictMemory(*m_model, runner->options(),
                                  [&](TensorKey key) { return m_model->load(key).planeBytes(); });
                const auto taken = runner->stageMemory();
                QCOMPARE(taken.size(), size_t(range.end > 0 ? 2 : 1));
                QCOMPARE(predicted.size(), taken.size());
                uint64_t weights = 0;
                for (size_t i = 0; i < taken.size(); ++i) {
                    weights += taken[i].weights;
                    QCOMPARE(taken[i].kv, predicted[i].kv);
                    // Up to an alignment of a device for each buffer.
                    constexpr uint64_t kBuffers = 32, kAlignment = 256;
                    QVERIFY(taken[i].scratch <= predicted[i].scratch + kBuffers * kAlignment);
                    QVERIFY(taken[i].scratch > predicted[i].scratch / 2);
                    const bool onCpu = i > 0 || mixers == cpu;
                    if (onCpu)
                        QCOMPARE(taken[i].weights, predicted[i].weights);
                    else // rows are padded to tiles, and each buffer to the device's alignment
                        QVERIFY(taken[i].weights < predicted[i].weights * 5 / 4);
                }
                const auto apartLayers = uint64_t(range.end - range.begin);
                QVERIFY(taken[0].weights < weights - apartLayers * each + 1);
                QVERIFY(taken.back().weights >= apartLayers * each);
                if (range.end > 0)
                    QCOMPARE(taken[1].kv, uint64_t(0));
                QCOMPARE(runner->memory().weights, weights);
            }
    }

    /// Without experts on it a device needs no room for what is inside them.
    void scratchShrinksWithoutExperts() {
        NIBBLE_NEED_LAVAPIPE(vulkan);
        const auto scratch = [&](LayerRange range) {
            RunOptions options;
            options.placement = placeAll(*m_model, vulkan);
            options.expertLayers = range;
            options.expertBackend = range.end > 0 ? openCpu() : nullptr;
            return predictMemory(*m_model, options, [](TensorKey) { return 0; })[0].scratch;
        };
        QVERIFY(scratch({0, 4}) < scratch({1, 4}));
        QCOMPARE(scratch({1, 4}), scratch({0, 0}));
    }

    void whereThereAreNoExpertsIsRefused() {
        const auto plain = makeSyntheticModel("tiny");
        QVERIFY_EXCEPTION_THROWN(makeApart(plain, {placeAll(*plain, openCpu()), {0, 1}, openCpu()}),
                                 Error);
        for (const LayerRange range : {LayerRange{0, 0}, LayerRange{-1, 2}, LayerRange{2, 9}})
            QVERIFY_EXCEPTION_THROWN(
                makeApart(m_model, {placeAll(*m_model, openCpu()), range, openCpu()}), Error);
    }
};

QTEST_GUILESS_MAIN(TestExperts)
#include "test_experts.moc"
