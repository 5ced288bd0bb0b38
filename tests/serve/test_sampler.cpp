#include "core/serve/generate.h"

#include <QTest>
#include <cmath>
#include <limits>

using namespace nibble;

namespace {

SamplerOptions plain(double temperature, uint64_t seed = 7) {
    return {.temperature = temperature,
            .topK = 0,
            .topP = 1,
            .minP = 0,
            .repeatPenalty = 1,
            .seed = seed};
}

std::vector<int> counts(const SamplerOptions& options, const std::vector<float>& logits,
                        int draws) {
    Sampler sampler(options);
    std::vector<int> seen(logits.size());
    for (int i = 0; i < draws; ++i)
        ++seen[static_cast<size_t>(sampler.pick(logits, {}))];
    return seen;
}

} // namespace

class TestSampler : public QObject {
    Q_OBJECT
private slots:
    void greedyTakesTheLowestOfTies() {
        Sampler sampler(plain(0));
        const std::vector<float> logits{1, 3, 3, -std::numeric_limits<float>::infinity()};
        QCOMPARE(sampler.pick(logits, {}), 1);
    }
    void drawsFollowTheSoftmax() {
        const std::vector<float> logits{0, 1, 2, -1};
        constexpr int kDraws = 20'000;
        for (const double temperature : {0.5, 1.0, 2.0}) {
            const auto seen = counts(plain(temperature), logits, kDraws);
            double total = 0;
            for (const float logit : logits)
                total += std::exp(logit / temperature);
            for (size_t i = 0; i < logits.size(); ++i) {
                const double p = std::exp(logits[i] / temperature) / total;
                // Five standard deviations of a binomial count.
                const double bound = 5 * std::sqrt(kDraws * p * (1 - p));
                QVERIFY(std::abs(seen[i] - kDraws * p) < bound);
            }
        }
    }
    void sameSeedSameDraws() {
        const std::vector<float> logits{0, 0, 0, 0, 0, 0, 0, 0};
        std::vector<TokenId> first, second, other;
        Sampler a(plain(1, 42)), b(plain(1, 42)), c(plain(1, 43));
        for (int i = 0; i < 64; ++i) {
            first.push_back(a.pick(logits, {}));
            second.push_back(b.pick(logits, {}));
            other.push_back(c.pick(logits, {}));
        }
        QCOMPARE(first, second);
        QVERIFY(first != other);
    }
    void cutsLeaveOnlyTheLikely() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        const auto log2 = static_cast<float>(std::log(2.0));
        const std::vector<float> logits{3 * log2, 2 * log2, log2, log2};
        SamplerOptions options = plain(1);
        options.topK = 2;
        auto seen = counts(options, logits, 2000);
        QVERIFY(seen[0] > 0 && seen[1] > 0 && seen[2] == 0 && seen[3] == 0);
        options = plain(1);
        options.topP = 0.7; // 0.5 is too little, 0.75 is enough
        seen = counts(options, logits, 2000);
        QVERIFY(seen[0] > 0 && seen[1] > 0 && seen[2] == 0 && seen[3] == 0);
        options = plain(1);
        options.minP = 0.3; // 0.25 of the best's probability falls out
        seen = counts(options, logits, 2000);
        QVERIFY(seen[0] > 0 && seen[1] > 0 && seen[2] == 0 && seen[3] == 0);
    }
    void repetitionIsPenalizedBothWays() {
        SamplerOptions options = plain(0);
        options.repeatPenalty = 2;
        Sampler sampler(options);
        const std::vector<float> positive{4, 3}, negative{-1, -1.5};
        const std::vector<TokenId> recent{0};
        QCOMPARE(sampler.pick(positive, recent), 1);
        QCOMPARE(sampler.pick(negative, recent), 1);
        std::vector<TokenId> longAgo(65, 1);
        longAgo[0] = 0; // further back than the window of 64
        QCOMPARE(sampler.pick(positive, longAgo), 0);
    }
    void notANumberIsASentence() {
        Sampler sampler(plain(1));
        const std::vector<float> logits(4, std::numeric_limits<float>::quiet_NaN());
        QVERIFY_EXCEPTION_THROWN(sampler.pick(logits, {}), Error);
        const std::vector<float> one{std::numeric_limits<float>::quiet_NaN(), 1};
        QCOMPARE(sampler.pick(one, {}), 1);
    }
};

QTEST_GUILESS_MAIN(TestSampler)
#include "test_sampler.moc"
