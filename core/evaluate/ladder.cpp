#include "core/evaluate/ladder.h"

#include "core/evaluate/measured.h"
#include "core/quant/quantizer.h"

#include "core/base/hash.h"
#include "core/calibrate/calibrate.h"
#include "core/quant/apply.h"
#include "core/runtime/bench.h"

#include <algorithm>
#include <chrono>

namespace nibble {
namespace {

constexpr int32_t kBenchPrompt = 64, kBenchTokens = 24;

RunOptions optionsFor(const Model& model, const std::shared_ptr<Backend>& backend,
                      const Recipe& recipe, int32_t context) {
    RunOptions options;
    options.placement = placeAll(model, backend);
    options.context = context;
    options.kFormat = recipe.kFormat;
    options.vFormat = recipe.vFormat;
    return options;
}

MemoryUse predicted(const Model& model, const RunOptions& options, const Recipe& recipe) {
    MemoryUse sum;
    for (const MemoryUse& use : predictMemory(
             model, options, [&](TensorKey key) { return recipeBytes(model, recipe, key); })) {
        sum.weights += use.weights;
        sum.kv += use.kv;
        sum.scratch += use.scratch;
    }
    return sum;
}

/// The variant's runner, kept from level to level as long as the KV formats stay.
struct Variant {
    std::unique_ptr<Runner> runner;
    Recipe recipe;

    void load(const std::shared_ptr<const Model>& model, const std::shared_ptr<Backend>& backend,
              const Recipe& next, int32_t context, const std::filesystem::path& calibration,
              const Progress& progress) {
        const bool fresh =
            !runner || recipe.kFormat != next.kFormat || recipe.vFormat != next.vFormat;
        if (fresh) {
            runner.reset();
            runner = std::make_unique<Runner>(model, optionsFor(*model, backend, next, context));
        }
        Progress quiet = progress;
        quiet.onReport = {};
        try {
            applyRecipe(*runner, next, fresh ? nullptr : &recipe, quiet,
                        calibrationFor(model, next, quiet, calibration));
        } catch (...) {
            runner.reset(); // a mixture of two recipes must not be measured
            throw;
        }
        recipe = next;
    }
};

} // namespace

const std::vector<LadderLevel>& ladderLevels() {
    static const std::vector<LadderLevel> all = [] {
        std::vector<LadderLevel> rows;
        for (const Level& level : levels())
            rows.push_back({level.name, level.title, level.about});
        rows.push_back({kMixedLevel, "Mixed",
                        "More bits for the tensors that cost most, fewer for the others: the best "
                        "recipe for a budget."});
        return rows;
    }();
    return all;
}

std::string ladderTitle(std::string_view level) {
    return level == kMixedLevel ? ladderLevels().back().title : getLevel(level).title;
}

std::vector<LadderRow> measureLadder(std::shared_ptr<const Model> model, const EvaluationText& text,
                                     const LadderOptions& options, const Progress& progress,
                                     const std::function<void(const LadderRow&)>& onRow) {
    model->requireRunnable();
    std::vector<std::string> names = options.levels;
    if (names.empty())
        for (const LadderLevel& level : ladderLevels())
            names.emplace_back(level.name);
    for (const std::string& name : names)
        ladderTitle(name); // an unknown one is said before anything is loaded

    const auto backend = openDevice(options.device);
    const uint64_t room = backend->info().freeBytes;
    const int32_t context = options.evaluate.context;
    const double stages = static_cast<double>(names.size());

    const auto size = [&](LadderRow& row) {
        row.size = recipeSize(*model, row.recipe);
        row.memory =
            predicted(*model, optionsFor(*model, backend, row.recipe, options.context), row.recipe);
        row.fits = room == 0 || row.memory.total() <= room;
    };
    std::vector<LadderRow> rows;
    for (const std::string& name : names) {
        LadderRow& row = rows.emplace_back();
        row.level = name;
        row.recipe = name == kMixedLevel ? Recipe{} : levelRecipe(name, *model);
        if (!options.calibration.empty() && name != kMixedLevel &&
            neededCalibration(*model, row.recipe) == Needs::Nothing)
            row.recipe = weightedRecipe(std::move(row.recipe));
        if (options.outlierThreshold && name != kMixedLevel)
            row.recipe.outlierThreshold = *options.outlierThreshold;
        size(row);
    }

    Runner base(model, optionsFor(*model, backend, Recipe{}, context));
    Progress quiet = progress;
    quiet.onReport = {};
    applyRecipe(base, Recipe{}, nullptr, quiet);

    const EvaluationTokens words =
        model->tokenizer ? tokenize(*model->tokenizer, text) : EvaluationTokens{};
    BaseLogits kept;
    Variant variant;
    for (size_t i = 0; i < rows.size(); ++i) {
        LadderRow& row = rows[i];
        Progress part = progress;
        part.onReport = [&](double done, double total, std::string_view) {
            progress.report(static_cast<double>(i) + (total > 0 ? done / total : 0), stages,
                            row.level);
        };
        bool made = false;
        try {
            model->requireTokenizer("text cannot be measured");
            const auto start = std::chrono::steady_clock::now();
            if (row.level == kMixedLevel) {
                PredictorOptions predictor;
                predictor.sensitivity.device = options.device;
                predictor.sensitivity.context = context;
                predictor.sensitivity.windows = options.sensitivityWindows();
                predictor.calibration = options.calibration;
                row.recipe = mixedPlan(model, options.mixed, predictor, part).recipe;
                size(row);
            }
            variant.load(model, backend, row.recipe, context, options.calibration, progress);
            made = true;
            const auto calibration = calibrationFor(model, row.recipe, quiet, options.calibration);
            row.size = recipeSize(*model, row.recipe, calibration.get());
            row.makeSeconds =
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            row.quality =
                measureQuality(*variant.runner, &base, words, options.evaluate, part, {}, &kept);
            row.quality.level = row.level;
            row.quality.recipeHash = hashName(row.recipe.hash());
            row.quality.bytes = row.size.bytes;
            row.quality.bitsPerWeight = row.size.bitsPerWeight;
            row.measured = true;
            if (!options.probes.empty())
                row.probes = measureProbes(*variant.runner, options.probes, quiet);
            keepMeasured(*model, row.recipe, calibration.get(), row.quality,
                         row.probes ? &*row.probes : nullptr);
            if (options.speed) {
                const int32_t tokens = std::min(kBenchTokens, context / 4);
                const BenchResult bench = benchRunner(
                    *variant.runner, std::min(kBenchPrompt, context / 2), tokens, 1, quiet);
                row.promptTps = bench.promptTokensPerSecond;
                row.generateTps = bench.generateTokensPerSecond;
            }
        } catch (const Error& error) {
            // One level that fails does not take the others with it; cancelling and a lost device
            // do.
            if (error.kind() == ErrorKind::Cancelled || error.kind() == ErrorKind::DeviceLost)
                throw;
            row.problem = error.what();
            if (!made && model->tokenizer) { // there is nothing whose size could be told
                row.size = {};
                row.memory = {};
                row.fits = false;
            }
        }
        progress.report(static_cast<double>(i + 1), stages, row.level);
        if (onRow)
            onRow(row);
    }
    return rows;
}

std::optional<Recommendation> recommendLevel(const std::vector<LadderRow>& rows,
                                             uint64_t baseBytes) {
    const auto better = [](const LadderRow& a, const LadderRow& b) {
        if (a.measured != b.measured)
            return a.measured;
        if (!a.measured)
            return a.size.bytes > b.size.bytes;
        const auto small = [](const LadderRow& row) {
            return row.quality.kldMean + row.quality.kldError <= Recommendation::kSmallLoss;
        };
        if (small(a) != small(b))
            return small(a);
        if (small(a) && a.size.bytes != b.size.bytes)
            return a.size.bytes < b.size.bytes;
        return a.quality.kldMean < b.quality.kldMean;
    };
    const LadderRow* best = nullptr;
    for (const LadderRow& row : rows)
        if (row.fits && row.problem.empty() && (!best || better(row, *best)))
            best = &row;
    if (!best)
        return {};
    Recommendation found;
    found.row = static_cast<size_t>(best - rows.data());
    found.measured = best->measured;
    found.smallLoss = best->measured &&
                      best->quality.kldMean + best->quality.kldError <= Recommendation::kSmallLoss;
    found.sizeShare =
        baseBytes ? static_cast<double>(best->size.bytes) / static_cast<double>(baseBytes) : 0;
    for (const LadderRow& row : rows)
        if (row.level == "f16" && row.generateTps > 0)
            found.speedRatio = best->generateTps / row.generateTps;
    return found;
}

} // namespace nibble
