#include "core/base/large_allocator.h"
#include "core/base/parallel.h"
#include "core/runtime/kernel_bench.h"

#include <algorithm>
#include <chrono>
#include <unistd.h>

namespace nibble {

namespace {

/// Sum of whole lines of eight words, so that eight independent chains keep the loads coming.
uint64_t readWords(const uint64_t* words, size_t begin, size_t end) {
    uint64_t sums[8] = {};
    for (size_t i = begin; i < end; i += 8)
        for (size_t j = 0; j < 8; ++j)
            sums[j] += words[i + j];
    uint64_t total = 0;
    for (const uint64_t sum : sums)
        total += sum;
    return total;
}

/// Four times the last cache, at least 256 MiB, and not more than an eighth of the machine.
size_t bufferBytes() {
    constexpr size_t kLeast = size_t(256) << 20;
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const auto wanted = std::max(kLeast, cache > 0 ? static_cast<size_t>(cache) * 4 : kLeast);
    const size_t memory =
        static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return std::min(wanted, std::max(kLeast / 4, memory / 8)) / 64 * 64;
}

} // namespace

double cpuReadBandwidth(int passes) {
    constexpr size_t kGrain = 1 << 16;
    LargeVector<uint64_t> words(bufferBytes() / sizeof(uint64_t), 1);
    const size_t lines = words.size() / 8;
    std::atomic<uint64_t> total{0};
    double best = 0;
    for (int pass = 0; pass < passes; ++pass) {
        const auto start = std::chrono::steady_clock::now();
        parallelFor(lines, kGrain, [&](size_t begin, size_t end) {
            total += readWords(words.data(), begin * 8, end * 8);
        });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        best = std::max(best, static_cast<double>(words.size() * sizeof(uint64_t)) / took.count());
    }
    // The sum is known; comparing it keeps the reads from being optimised away.
    return total == words.size() * static_cast<size_t>(passes) ? best : 0;
}

} // namespace nibble
