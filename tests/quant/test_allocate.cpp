#include "core/base/random.h"
#include "core/quant/allocate.h"
#include "tests/support/patience.h"

#include <QElapsedTimer>
#include <QTest>
#include <cmath>
#include <functional>

using namespace nibble;

namespace {

/// Options as formats give them: each bit costs as much as the last and saves a quarter of the
/// loss.
std::vector<std::vector<StorageOption>> problem(size_t tensors, size_t options, uint64_t seed) {
    Random random(seed);
    std::vector<std::vector<StorageOption>> all(tensors);
    for (auto& tensor : all) {
        const double size = 1000 * std::exp(2 * random.uniform());
        const double sensitivity = std::exp(4 * random.uniform());
        for (size_t i = 0; i < options; ++i) {
            const double bits = 2 + 6 * random.uniform();
            tensor.push_back({static_cast<uint64_t>(size * bits),
                              sensitivity * std::pow(0.25, bits) * (0.7 + 0.6 * random.uniform()),
                              1e-6});
        }
    }
    return all;
}

/// Every combination.
void each(const std::vector<std::vector<StorageOption>>& tensors,
          const std::function<void(uint64_t bytes, double loss)>& visit) {
    std::vector<size_t> at(tensors.size());
    for (;;) {
        uint64_t bytes = 0;
        double loss = 0;
        for (size_t t = 0; t < tensors.size(); ++t) {
            bytes += tensors[t][at[t]].bytes;
            loss += tensors[t][at[t]].loss;
        }
        visit(bytes, loss);
        size_t t = 0;
        while (t < at.size() && ++at[t] == tensors[t].size())
            at[t++] = 0;
        if (t == at.size())
            return;
    }
}

void verifySums(const std::vector<std::vector<StorageOption>>& tensors, const Allocation& found) {
    uint64_t bytes = 0;
    double loss = 0, variance = 0;
    for (size_t t = 0; t < tensors.size(); ++t) {
        const StorageOption& option = tensors[t][static_cast<size_t>(found.choice[t])];
        bytes += option.bytes;
        loss += option.loss;
        variance += option.variance;
    }
    QCOMPARE(found.bytes, bytes);
    QVERIFY(std::abs(found.loss - loss) < 1e-9);
    QVERIFY(std::abs(found.variance - variance) < 1e-12);
}

} // namespace

class TestAllocate : public QObject {
    Q_OBJECT
private slots:
    /// Small enough to try everything: the greedy answer costs at most a tenth more loss than the
    /// best one on average, and never exceeds the budget.
    void nearTheBestOfAllCombinations() {
        double worst = 1, sum = 0;
        int count = 0;
        for (uint64_t seed = 1; seed <= 12; ++seed) {
            const auto tensors = problem(6, 5, seed);
            const Allocator allocator(tensors);
            for (const double share : {0.1, 0.3, 0.5, 0.8, 1.0}) {
                const auto budget =
                    allocator.leastBytes() +
                    static_cast<uint64_t>(share * static_cast<double>(allocator.mostBytes() -
                                                                      allocator.leastBytes()));
                double best = HUGE_VAL;
                each(tensors, [&](uint64_t bytes, double loss) {
                    if (bytes <= budget)
                        best = std::min(best, loss);
                });
                const Allocation found = allocator.within(budget);
                verifySums(tensors, found);
                QVERIFY(found.bytes <= budget);
                QVERIFY(found.loss >= best - 1e-12);
                worst = std::max(worst, found.loss / best);
                sum += found.loss / best;
                ++count;
            }
        }
        QVERIFY2(sum / count < 1.1, qPrintable(QString::number(sum / count)));
        QVERIFY2(worst < 2, qPrintable(QString::number(worst)));
    }
    void aTargetIsMetWithFewBytes() {
        double sum = 0;
        int count = 0;
        for (uint64_t seed = 1; seed <= 12; ++seed) {
            const auto tensors = problem(6, 5, seed);
            const Allocator allocator(tensors);
            const double most = allocator.within(allocator.leastBytes()).loss;
            for (const double share : {0.02, 0.1, 0.5}) {
                uint64_t best = UINT64_MAX;
                each(tensors, [&](uint64_t bytes, double loss) {
                    if (loss <= share * most)
                        best = std::min(best, bytes);
                });
                if (best == UINT64_MAX)
                    continue;
                const Allocation found = allocator.atMost(share * most);
                verifySums(tensors, found);
                QVERIFY(found.loss <= share * most);
                QVERIFY(found.bytes >= best);
                sum += static_cast<double>(found.bytes) / static_cast<double>(best);
                ++count;
            }
        }
        QVERIFY2(count > 20 && sum / count < 1.05, qPrintable(QString::number(sum / count)));
    }
    void moreBytesNeverLoseMore() {
        const Allocator allocator(problem(40, 8, 3));
        double last = HUGE_VAL;
        for (int i = 0; i <= 50; ++i) {
            const auto span = static_cast<double>(allocator.mostBytes() - allocator.leastBytes());
            const Allocation found =
                allocator.within(allocator.leastBytes() + static_cast<uint64_t>(span * i / 50));
            QVERIFY(found.loss <= last * 1.02);
            last = found.loss;
        }
    }
    void tooSmallAndTooLargeBudgets() {
        const auto tensors = problem(5, 4, 9);
        const Allocator allocator(tensors);
        QCOMPARE(allocator.within(0).bytes, allocator.leastBytes());
        const Allocation all = allocator.within(UINT64_MAX / 4);
        double least = 0;
        for (const auto& tensor : tensors)
            least +=
                std::min_element(tensor.begin(), tensor.end(), [](const auto& a, const auto& b) {
                    return a.loss < b.loss;
                })->loss;
        QVERIFY(std::abs(all.loss - least) < 1e-9);
        QVERIFY(std::abs(allocator.atMost(0).loss - least) < 1e-9);
        QCOMPARE(allocator.atMost(1e9).bytes, allocator.leastBytes());
    }
    /// So that a slider can drive it.
    void aLargeModelIsQuick() {
        const Allocator allocator(problem(500, 12, 5));
        QElapsedTimer timer;
        qint64 slowest = 0;
        for (int i = 0; i < 10; ++i) {
            timer.start();
            const auto span = allocator.mostBytes() - allocator.leastBytes();
            const Allocation found =
                allocator.within(allocator.leastBytes() + span * static_cast<uint64_t>(i) / 10);
            QVERIFY(found.bytes > 0);
            slowest = std::max(slowest, timer.elapsed());
        }
        qInfo("slowest %lld ms", static_cast<long long>(slowest));
        constexpr qint64 kLimit = 50 * test::kPatience;
        QVERIFY2(slowest < kLimit, qPrintable(QString::number(slowest) + " ms"));
    }
};

QTEST_APPLESS_MAIN(TestAllocate)
#include "test_allocate.moc"
