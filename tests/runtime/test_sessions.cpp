#include "core/base/error.h"
#include "core/runtime/cpu/kv_layout.h"
#include "tests/runtime/run_support.h"

#include <QTest>

#include <bit>
#include <cmath>
#include <numeric>

using namespace nibble;
using namespace nibble::test;

namespace {

std::vector<TokenId> someTokens(int count, int seed) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i)
        tokens.push_back((i * 37 + seed * 11 + i * i) % 256);
    return tokens;
}

struct Collector : Tap {
    std::vector<std::string> seen;
    std::vector<float> last;
    bool wants(const TapSite&) const override { return true; }
    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override {
        const char* what = site.what == TapSite::What::LayerOutput ? "layer" : "input";
        seen.push_back(std::string(what) + " " + shortName(site.key.role) + " " +
                       std::to_string(site.key.layer) + " " + std::to_string(rows) + "x" +
                       std::to_string(width));
        if (site.what == TapSite::What::LayerOutput)
            last.assign(values, values + rows * width);
    }
};

/// Int8 of a row's largest magnitude, plane column j holding column (j · step + 1) mod cols; step
/// 0: no column order.
Tensor int8Tensor(const Tensor& from, int64_t step) {
    TensorBuilder builder(from.name, getFormat("int8"), from.rows, from.cols);
    const std::vector<float> values = decode(from);
    std::vector<int32_t> order(size_t(from.cols));
    for (int64_t j = 0; j < from.cols; ++j)
        order[size_t(j)] = static_cast<int32_t>(step == 0 ? j : (j * step + 1) % from.cols);
    std::vector<uint8_t> codes(order.size());
    for (int64_t row = 0; row < from.rows; ++row) {
        const float* value = values.data() + row * from.cols;
        float scale = 1e-20f;
        for (int64_t i = 0; i < from.cols; ++i)
            scale = std::max(scale, std::fabs(value[i]) / 127);
        for (size_t j = 0; j < codes.size(); ++j)
            codes[j] = static_cast<uint8_t>(int(std::round(value[order[j]] / scale)));
        builder.setCodes(row, codes.data());
        builder.setScale(row, 0, std::bit_cast<uint32_t>(scale));
    }
    Tensor tensor = builder.finish();
    if (step != 0)
        tensor.columnOrder = std::make_shared<const std::vector<int32_t>>(std::move(order));
    return tensor;
}

} // namespace

class TestSessions : public QObject {
    Q_OBJECT
    std::shared_ptr<const Model> m_model = makeSyntheticModel("tiny");

private slots:
    void threeSessionsInOneCall_data() {
        QTest::addColumn<bool>("simd");
        QTest::addColumn<int>("activations");
        QTest::addColumn<int>("kv");
        for (const bool simd : {false, true})
            for (const int activations : {0, 1})
                for (const int kv : {0, 1})
                    QTest::addRow("%d %d %d", simd, activations, kv) << simd << activations << kv;
    }
    void threeSessionsInOneCall() {
        QFETCH(bool, simd);
        QFETCH(int, activations);
        QFETCH(int, kv);
        const auto runner =
            makeRunner(m_model, placeAll(*m_model, openCpu(simd ? CpuMode::Simd : CpuMode::Scalar)),
                       static_cast<ActivationFormat>(activations), 64, static_cast<KvFormat>(kv));
        std::vector<Session> together, apart;
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
        runner->forward(rows, {.logits = &logits});
        QVERIFY(logits == expected);
        QCOMPARE(together[1].length(), 36);
    }

    void forksShareAndDiverge() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu()));
        Session first = runner->newSession();
        runner->append(first, someTokens(40, 1));
        Session second = first.fork();
        runner->append(first, someTokens(9, 2));
        const auto branch = runner->append(second, someTokens(9, 3));
        Session plain = runner->newSession();
        runner->append(plain, someTokens(40, 1));
        QVERIFY(runner->append(plain, someTokens(9, 3)) == branch);
        second.truncate(20);
        QCOMPARE(second.length(), 20);
        const auto again = runner->append(second, someTokens(4, 4));
        Session fresh = runner->newSession();
        auto tokens = someTokens(40, 1);
        tokens.resize(20);
        runner->append(fresh, tokens);
        QVERIFY(runner->append(fresh, someTokens(4, 4)) == again);
    }

    void fullSessionsAndPagesAreErrors() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu()),
                                       ActivationFormat::Float, 64, KvFormat::F16, 1);
        Session session = runner->newSession();
        QVERIFY_EXCEPTION_THROWN(runner->append(session, someTokens(129, 1)), Error);
        QCOMPARE(session.length(), 0);
        runner->append(session, someTokens(128, 1));
        QVERIFY_EXCEPTION_THROWN(runner->append(session, someTokens(1, 1)), Error);
        Session other = runner->newSession();
        QVERIFY_EXCEPTION_THROWN(runner->append(other, someTokens(1, 1)), Error);
        session = Session();
        runner->append(other, someTokens(1, 1));
        const std::vector<TokenId> wrong{256};
        QVERIFY_EXCEPTION_THROWN(runner->append(other, wrong), Error);
    }

    void partialPassesEqualTheWhole() {
        const auto runner =
            makeRunner(m_model, placeAll(*m_model, openCpu()), ActivationFormat::Float, 16);
        const auto tokens = someTokens(40, 5);
        Session whole = runner->newSession();
        const auto expected = runner->append(whole, tokens, true);
        Session session = runner->newSession();
        std::vector<ForwardRow> rows;
        for (size_t i = 0; i < tokens.size(); ++i)
            rows.push_back({&session, tokens[i], int32_t(i), true});
        std::vector<float> hidden, logits;
        runner->forward(rows, {.layers = {0, 1}, .hiddenOut = &hidden});
        QCOMPARE(hidden.size(), tokens.size() * 64);
        runner->forward(rows, {.layers = {1, 2}, .hiddenIn = hidden, .logits = &logits});
        QVERIFY(logits == expected);
    }

    void anyCutGivesTheSameLogits() {
        const auto tokens = someTokens(21, 6);
        const auto run = [&](std::vector<Placement> placement, ActivationFormat format) {
            const auto runner = makeRunner(m_model, std::move(placement), format);
            Session session = runner->newSession();
            return runner->append(session, tokens, true);
        };
        const auto simd = openCpu(CpuMode::Simd), scalar = openCpu(CpuMode::Scalar);
        const auto whole = run(placeAll(*m_model, simd), ActivationFormat::Float);
        QVERIFY(run({{{0, 1}, simd}, {{1, 2}, simd}}, ActivationFormat::Float) == whole);
        const auto mixed = run({{{0, 1}, scalar}, {{1, 2}, simd}}, ActivationFormat::Float);
        // Two backends round differently: 2 layers of 7 products over at most 160 terms, with a
        // condition number below 100 for these random weights.
        QVERIFY(relativeError(mixed, whole) < 100 * 14 * 160 * 0x1p-24);
        QVERIFY_EXCEPTION_THROWN(run({{{0, 1}, simd}}, ActivationFormat::Float), Error);
        QVERIFY_EXCEPTION_THROWN(run({{{0, 1}, simd}, {{0, 2}, simd}}, ActivationFormat::Float),
                                 Error);
    }

    void integerCachesStayClose_data() {
        QTest::addColumn<int>("format");
        QTest::addColumn<int>("steps");
        QTest::addRow("int8") << int(KvFormat::Int8) << 127;
        QTest::addRow("int4") << int(KvFormat::Int4) << 7;
    }
    void integerCachesStayClose() {
        QFETCH(int, format);
        QFETCH(int, steps);
        // Heads of 16 values cannot be kept in blocks of 32; a model with longer heads can.
        QVERIFY_EXCEPTION_THROWN(makeRunner(m_model, placeAll(*m_model, openCpu()),
                                            ActivationFormat::Float, 8,
                                            static_cast<KvFormat>(format)),
                                 Error);
        auto config = m_model->config;
        config.headSize = 64;
        config.heads = config.kvHeads = 1;
        const KvLayout layout(config, static_cast<KvFormat>(format), static_cast<KvFormat>(format));
        std::vector<std::byte> page(layout.pageBytes());
        std::vector<float> key(64), value(64), keys(64 * 32), values(64 * 32);
        for (int t = 0; t < 32; ++t) {
            for (int d = 0; d < 64; ++d) {
                key[size_t(d)] = std::sin(float(d * 7 + t));
                value[size_t(d)] = std::cos(float(d * 3 + t)) * 4;
            }
            layout.store(page.data(), 0, 0, t, key.data(), value.data());
            layout.readKeys(page.data() + layout.keysAt(0, 0), keys.data());
            layout.readValues(page.data() + layout.valuesAt(0, 0), values.data());
            for (int d = 0; d < 64; ++d) {
                // Half a step, and the step's own rounding to f16.
                const float step = 1.0f / float(steps), slack = 0.5f * step + 0x1p-11f;
                QVERIFY(std::fabs(keys[size_t(d * 32 + t)] - key[size_t(d)]) <= slack);
                QVERIFY(std::fabs(values[size_t(t * 64 + d)] - value[size_t(d)]) <= 4 * slack);
            }
        }
    }

    void tapsSeeEverySiteInOrder() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu()));
        Session session = runner->newSession();
        Collector tap;
        const auto tokens = someTokens(5, 8);
        std::vector<ForwardRow> rows;
        for (const TokenId token : tokens)
            rows.push_back({&session, token, -1, token == tokens.back()});
        std::vector<float> hidden, logits;
        runner->forward(rows, {.hiddenOut = &hidden, .logits = &logits, .tap = &tap});
        std::vector<std::string> expected;
        for (const char* layer : {"0", "1"}) {
            const std::string l = std::string(" ") + layer + " ";
            expected.insert(expected.end(), {"input q" + l + "5x64", "input o" + l + "5x64",
                                             "input gate" + l + "5x64", "input down" + l + "5x160",
                                             "layer down" + l + "5x64"});
        }
        expected.push_back("input head -1 1x64");
        QVERIFY(tap.seen == expected);
        QVERIFY(tap.last == hidden);
    }

    void predictionIsTheMemoryTaken() {
        const auto tiny = makeSyntheticModel("tiny");
        RunOptions options;
        options.context = 128;
        options.maxRows = 16;
        options.placement = {{{0, 1}, openCpu()}, {{1, 2}, openCpu(CpuMode::Scalar)}};
        const auto predicted = predictMemory(
            *tiny, options, [&](TensorKey key) { return tiny->load(key).planeBytes(); });
        Runner runner(tiny, options);
        for (const TensorKey key : tiny->keys())
            runner.setTensor(key, tiny->load(key));
        uint64_t sum = 0;
        for (const MemoryUse& use : predicted)
            sum += use.total();
        QCOMPARE(runner.memory().total(), sum);
        QVERIFY(runner.memory().kv > 0 && runner.memory().scratch > 0);
    }

    void brokenWeightsDoNotCrash() {
        for (const CpuMode mode : {CpuMode::Scalar, CpuMode::Simd})
            for (const auto format : {ActivationFormat::Float, ActivationFormat::Int8Block32}) {
                const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu(mode)), format);
                const TensorKey key{Role::Query, 0};
                std::vector<float> values(64 * 64, std::nanf(""));
                runner->setTensor(key, makeFloatTensor("q", getFormat("f16"), 64, 64, values),
                                  format);
                Session session = runner->newSession();
                const auto logits = runner->append(session, someTokens(3, 1));
                QVERIFY(std::isnan(logits[0]));
            }
    }

    /// Cancelled from a tap in the middle of the pass: it does not reach the next step.
    void aPassIsCancelledBetweenItsSteps() {
        struct Canceller : Collector {
            std::atomic<bool> flag{false};
            void values(const TapSite& site, int32_t rows, int32_t width,
                        const float* values) override {
                Collector::values(site, rows, width, values);
                flag = seen.size() == 2;
            }
        } canceller;
        const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu()));
        Session session = runner->newSession();
        const auto tokens = someTokens(9, 4);
        try {
            runner->append(session, tokens, true, &canceller, &canceller.flag);
            QFAIL("it ran to its end");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 7);
        }
        QCOMPARE(canceller.seen.size(), size_t(2));
        QCOMPARE(session.length(), 0);
        Session fresh = runner->newSession();
        QVERIFY(runner->append(session, tokens) == runner->append(fresh, tokens));
    }

    /// Every product of a step reads its input in its own order, also where they share it.
    void columnOrdersInEveryStep_data() {
        QTest::addColumn<bool>("simd");
        QTest::addColumn<int>("activations");
        for (const bool simd : {false, true})
            for (const auto format : {ActivationFormat::Float, ActivationFormat::Int8Token})
                QTest::addRow("%d %d", simd, int(format)) << simd << int(format);
    }
    void columnOrdersInEveryStep() {
        QFETCH(bool, simd);
        QFETCH(int, activations);
        const auto backend = openCpu(simd ? CpuMode::Simd : CpuMode::Scalar);
        std::vector<float> logits[2];
        uint64_t scratch[2] = {};
        for (const bool ordered : {false, true}) {
            const auto runner = makeRunner(m_model, placeAll(*m_model, backend));
            int64_t step = 5; // of its own for every tensor
            for (const TensorKey key : m_model->keys())
                if (isMatrix(key.role)) {
                    const Tensor tensor = m_model->load(key);
                    do
                        step += 2;
                    while (std::gcd(step, tensor.cols) != 1);
                    runner->setTensor(key, int8Tensor(tensor, ordered ? step : 0),
                                      static_cast<ActivationFormat>(activations));
                }
            Session session = runner->newSession();
            logits[ordered] = runner->append(session, someTokens(9, 3), true);
            scratch[ordered] = runner->memory().scratch;
            for (const PathReport& path : runner->paths())
                QCOMPARE(path.path.find("in column order") != std::string::npos, ordered);
        }
        QVERIFY(scratch[1] > scratch[0]); // the inputs in other orders are accounted for
        float largest = 0, worst = 0;
        for (size_t i = 0; i < logits[0].size(); ++i) {
            largest = std::max(largest, std::fabs(logits[0][i]));
            worst = std::max(worst, std::fabs(logits[0][i] - logits[1][i]));
        }
        // The same products added up in another order: some hundred roundings, or for the codes of
        // the next product's input a step of 1/127 that went the other way.
        const float bound =
            ActivationFormat(activations) == ActivationFormat::Float ? 1024 * 0x1p-24f : 1.0f / 127;
        QVERIFY2(worst < bound * largest, qPrintable(QString::number(worst / largest)));
    }

    void pathsNameTheCodeThatRan() {
        const auto runner = makeRunner(m_model, placeAll(*m_model, openCpu(CpuMode::Scalar)));
        const auto paths = runner->paths();
        QCOMPARE(paths.size(), size_t(2 * 7 + 2));
        for (const PathReport& path : paths)
            QCOMPARE(path.path, std::string("f16 × float, scalar"));
    }
};

QTEST_GUILESS_MAIN(TestSessions)
#include "test_sessions.moc"
