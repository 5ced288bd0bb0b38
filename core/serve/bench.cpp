#include "core/serve/bench.h"

#include "core/runtime/kernel_bench.h"

#include "core/calibrate/calibrate.h"
#include "core/quant/apply.h"
#include "core/runtime/bench.h"

#include <algorithm>
#include <chrono>

namespace nibble {

namespace {

using Clock = std::chrono::steady_clock;

bool usesMainMemory(const DeviceInfo& device) {
    return device.kind == "cpu" || device.kind == "software";
}

} // namespace

std::optional<double> BenchReport::bandwidthFraction() const {
    if (!readBandwidth || *readBandwidth <= 0)
        return std::nullopt;
    return static_cast<double>(bytesPerToken) * generateTps / *readBandwidth;
}

BenchReport runBench(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                     const EngineOptions& options, const BenchOptions& bench,
                     const Progress& progress) {
    if (bench.prompt < 1 || bench.generate < 1 || bench.batches.empty() ||
        std::any_of(bench.batches.begin(), bench.batches.end(), [](int32_t n) { return n < 1; }))
        fail(ErrorKind::Usage, "Prompt, generated tokens and batches must be 1 or more.");
    const Recipe effective = effectiveRecipe(recipe, options);
    const int32_t widest = *std::max_element(bench.batches.begin(), bench.batches.end());
    EngineOptions wide = options;
    wide.context = std::max(bench.prompt, kPageTokens) + bench.generate + 1;
    RunOptions run = runOptions(*model, recipe, wide);
    run.maxRows = std::max(run.maxRows, widest);
    // Sessions of a batch are short (a page or so of past, and the answer); pages are counted for
    // full ones.
    const int32_t perBatch = bench.generate + 2 * kPageTokens;
    run.sessions = 1 + (widest * perBatch + wide.context - 1) / wide.context;

    BenchReport report;
    const auto begin = Clock::now();
    Runner runner(model, run);
    applyRecipe(runner, effective, nullptr, progress,
                calibrationFor(model, effective, progress, options.calibration));
    report.loadSeconds = std::chrono::duration<double>(Clock::now() - begin).count();
    report.device = run.placement.front().backend->info();
    report.placement = placementText(run);

    // Once with nothing counted: pipelines are made and shapes recorded on first use.
    benchRunner(runner, std::min(bench.prompt, run.maxRows), 2, 1, progress);
    progress.report(0, 2, "Reading a prompt and generating");
    const BenchResult single = benchRunner(runner, bench.prompt, bench.generate, 1, progress);
    report.promptTps = single.promptTokensPerSecond;
    report.generateTps = single.generateTokensPerSecond;
    report.bytesPerToken = static_cast<uint64_t>(single.weightBytesPerToken);
    report.barriersPerLayer = runner.barriersPerLayer();
    for (size_t i = 0; i < bench.batches.size(); ++i) {
        progress.report(static_cast<double>(i), static_cast<double>(bench.batches.size()),
                        "Generating side by side");
        const int32_t sequences = bench.batches[i];
        report.batches.push_back(
            {sequences, sequences == 1 ? report.generateTps
                                       : benchRunner(runner, 0, bench.generate, sequences, progress)
                                             .generateTokensPerSecond});
    }
    runner.setTimed(true);
    benchRunner(runner, 0, 4, 1, progress);
    report.steps = runner.stepTimes();
    runner.setTimed(false);
    if (!report.steps.empty() && run.placement.size() == 1 && !run.expertBackend) {
        double all = 0;
        for (const StepTime& step : report.steps)
            all += step.microseconds;
        report.millisecondsBetweenTokens = 1000 / report.generateTps - all * 1e-3;
    }
    report.memory = runner.memory();
    report.paths = runner.paths();
    const bool mainMemory = usesMainMemory(report.device);
    report.peakBytes = mainMemory ? peakResidentBytes() : report.memory.total();
    if (mainMemory)
        report.readBandwidth = cpuReadBandwidth();
    if (mainMemory && *report.readBandwidth > 0)
        keepBandwidth(report.device, *report.readBandwidth);
    return report;
}

} // namespace nibble
