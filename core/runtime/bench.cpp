#include "core/runtime/bench.h"

#include "core/base/random.h"

#include <algorithm>
#include <chrono>

namespace nibble {
namespace {

/// Tokens that each generating sequence starts from.
constexpr int32_t kPast = 16;

double secondsSince(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<TokenId> randomTokens(Random& random, int32_t count, int32_t vocabulary) {
    std::vector<TokenId> tokens(static_cast<size_t>(count));
    for (TokenId& token : tokens)
        token = static_cast<TokenId>(random.uniform() * vocabulary);
    return tokens;
}

/// Bytes of weights that a step reads: all but the embedding table, unless it is the head as well.
double weightsPerStep(const Runner& runner) {
    double bytes = static_cast<double>(runner.memory().weights);
    const Model& model = runner.model();
    if (!model.config.tiedEmbedding) {
        const TensorInfo& table = model.get({Role::TokenEmbedding, -1});
        for (const PathReport& path : runner.paths())
            if (path.key.role == Role::TokenEmbedding)
                bytes -= getFormat(path.format).bitsPerWeight(table.cols()) / 8 *
                         static_cast<double>(table.values());
    }
    // Of experts it reads its share.
    if (const ModelConfig& config = model.config; config.experts > 0)
        for (const PathReport& path : runner.paths())
            if (path.key.expert >= 0) {
                const TensorInfo& one = model.get(path.key);
                bytes -= getFormat(path.format).bitsPerWeight(one.cols()) / 8 *
                         static_cast<double>(one.values()) *
                         (1 - double(config.expertsUsed) / double(config.experts));
            }
    return bytes;
}

} // namespace

BenchResult benchRunner(Runner& runner, int32_t prompt, int32_t generate, int32_t batch,
                        const Progress& progress) {
    BenchResult result{.weightBytesPerToken = weightsPerStep(runner),
                       .promptTokens = prompt,
                       .generatedTokens = generate * batch,
                       .batch = batch};
    const int32_t vocabulary = runner.model().config.vocabulary;
    const double total = prompt + generate;
    Random random(1);
    if (prompt > 0) {
        Session session = runner.newSession();
        runner.append(session, randomTokens(random, 1, vocabulary));
        session.truncate(0);
        const std::vector<TokenId> tokens = randomTokens(random, prompt, vocabulary);
        const auto start = std::chrono::steady_clock::now();
        for (size_t at = 0; at < tokens.size();) {
            progress.check();
            const auto rows = static_cast<size_t>(runner.options().maxRows);
            const auto chunk = std::span(tokens).subspan(at, std::min(rows, tokens.size() - at));
            runner.append(session, chunk);
            at += chunk.size();
            progress.report(static_cast<double>(at), total, "prompt");
        }
        result.promptTokensPerSecond = prompt / secondsSince(start);
    }
    if (generate <= 0 || batch <= 0)
        return result;
    std::vector<Session> sessions;
    std::vector<ForwardRow> rows;
    for (int32_t i = 0; i < batch; ++i) {
        sessions.push_back(runner.newSession());
        runner.append(sessions.back(), randomTokens(random, kPast, vocabulary));
    }
    for (Session& session : sessions)
        rows.push_back({.session = &session, .token = 0, .position = -1, .wantLogits = true});
    std::vector<float> logits;
    const auto step = [&] {
        for (ForwardRow& row : rows)
            row.token = randomTokens(random, 1, vocabulary).front();
        runner.forward(rows, {.layers = {},
                              .hiddenIn = {},
                              .hiddenOut = nullptr,
                              .logits = &logits,
                              .tap = nullptr});
    };
    step();
    const auto start = std::chrono::steady_clock::now();
    for (int32_t i = 0; i < generate; ++i) {
        progress.check();
        step();
        progress.report(prompt + i + 1, total, "generate");
    }
    result.generateTokensPerSecond = generate * batch / secondsSince(start);
    return result;
}

} // namespace nibble
