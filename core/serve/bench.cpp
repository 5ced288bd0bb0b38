#include "core/serve/bench.h"

#include "core/base/random.h"
#include "core/quant/apply.h"

#include <algorithm>
#include <chrono>

namespace nibble {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<TokenId> randomTokens(int32_t vocabulary, size_t count) {
    Random random(1);
    std::vector<TokenId> tokens(count);
    for (TokenId& token : tokens)
        token = static_cast<TokenId>(random.next() % static_cast<uint64_t>(vocabulary));
    return tokens;
}

/// Bytes of every matrix that one generated token is multiplied with.
uint64_t readPerToken(const Model& model, const Recipe& recipe) {
    uint64_t bytes = 0;
    for (const TensorKey key : model.keys())
        if (isMatrix(key.role) && (key.role != Role::TokenEmbedding || model.config.tiedEmbedding))
            bytes += recipeBytes(model, recipe, key);
    return bytes;
}

/// Tokens per second of `tokens` steps with every session one token further in each.
double timeSteps(Runner& runner, std::span<Session> sessions, std::span<const TokenId> tokens,
                 const Progress& progress) {
    std::vector<ForwardRow> rows(sessions.size());
    std::vector<float> logits;
    ForwardIo io;
    io.logits = &logits;
    double seconds = 0;
    // The first step records the shape's commands, as it does once in a session.
    for (size_t at = 0; at <= tokens.size(); ++at) {
        progress.check();
        for (size_t i = 0; i < sessions.size(); ++i)
            rows[i] = {&sessions[i], tokens[(at + i) % tokens.size()], -1, true};
        const auto start = Clock::now();
        runner.forward(rows, io);
        if (at > 0)
            seconds += secondsSince(start);
    }
    return static_cast<double>(tokens.size() * sessions.size()) / seconds;
}

double timePrompt(Runner& runner, Session& session, std::span<const TokenId> tokens,
                  const Progress& progress) {
    const auto most = static_cast<size_t>(runner.options().maxRows);
    const auto start = Clock::now();
    for (size_t at = 0; at < tokens.size(); at += most) {
        progress.check();
        runner.append(session, tokens.subspan(at, std::min(most, tokens.size() - at)));
    }
    return static_cast<double>(tokens.size()) / secondsSince(start);
}

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
    wide.context = bench.prompt + bench.generate + 1;
    RunOptions run = runOptions(*model, recipe, wide);
    run.maxRows = std::max(run.maxRows, widest);
    const int32_t perBatch = bench.generate + 1;
    // Sessions of a batch are short; pages are counted for full ones.
    run.sessions = 1 + (widest * (perBatch + kPageTokens) + wide.context - 1) / wide.context;

    BenchReport report;
    const auto begin = Clock::now();
    Runner runner(model, run);
    applyRecipe(runner, effective, nullptr, progress);
    report.loadSeconds = secondsSince(begin);
    report.device = run.placement.front().backend->info();

    const auto tokens = randomTokens(model->config.vocabulary,
                                     static_cast<size_t>(std::max(bench.prompt, bench.generate)));
    const std::span all(tokens);
    const auto prompt = all.first(static_cast<size_t>(bench.prompt));
    const auto answer = all.first(static_cast<size_t>(bench.generate));
    {
        // Once with nothing counted: pipelines are made and shapes recorded on first use.
        Session warm = runner.newSession();
        timePrompt(runner, warm, prompt.first(std::min(prompt.size(), size_t(run.maxRows))),
                   progress);
    }
    {
        Session session = runner.newSession();
        progress.report(0, 2, "Reading a prompt");
        report.promptTps = timePrompt(runner, session, prompt, progress);
        progress.report(1, 2, "Generating");
        report.generateTps = timeSteps(runner, std::span(&session, 1), answer, progress);
        report.barriersPerLayer = runner.barriersPerLayer();
    }
    for (size_t i = 0; i < bench.batches.size(); ++i) {
        progress.report(static_cast<double>(i), static_cast<double>(bench.batches.size()),
                        "Generating side by side");
        std::vector<Session> sessions;
        for (int32_t n = 0; n < bench.batches[i]; ++n)
            sessions.push_back(runner.newSession());
        report.batches.push_back({bench.batches[i], timeSteps(runner, sessions, answer, progress)});
    }
    report.bytesPerToken = readPerToken(*model, effective);
    report.memory = runner.memory();
    report.paths = runner.paths();
    const bool mainMemory = usesMainMemory(report.device);
    report.peakBytes = mainMemory ? peakResidentBytes() : report.memory.total();
    if (mainMemory)
        report.readBandwidth = cpuReadBandwidth();
    return report;
}

} // namespace nibble
