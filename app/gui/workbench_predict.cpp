#include "app/gui/recipe_step.h"
#include "app/gui/workbench.h"

#include "core/base/hash.h"
#include "core/calibrate/calibrate.h"
#include "core/evaluate/mixed.h"
#include "core/serve/device_budget.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <span>

/// The part of the document that predicts losses and finds recipes for budgets.
namespace nibble {

/// Used by one job at a time.
struct Workbench::Forecast {
    Forecast(const std::shared_ptr<const Model>& model, const PredictorOptions& options,
             const Progress& progress)
        : predictor(model, options, progress), planner(predictor, progress) {}

    std::mutex mutex;
    LossPredictor predictor;
    MixedPlanner planner;
};

/// What a job brings back.
struct Workbench::Forecasts {
    std::shared_ptr<Forecast> forecast;
    std::map<uint64_t, Prediction> recipes;
    uint64_t tensorsOf = 0; ///< hash of the recipe that `tensors` belong to
    std::map<TensorKey, Prediction> tensors;
    std::map<std::string, std::vector<double>> layers;
    std::optional<Recipe> mixed;
};

/// Losses depend on the tensors alone, not on the cache or on what the recipe is called. Hashes the
/// text itself: it is asked for every row of every table.
uint64_t Workbench::rulesHash(const Recipe& recipe) {
    uint64_t hash = hashText("");
    const auto add = [&](std::string_view text) {
        hash = hashBytes(std::as_bytes(std::span(text)), hash);
        hash = hashBytes(std::as_bytes(std::span("", 1)), hash); // where it ends
    };
    for (const RecipeRule& rule : recipe.rules)
        for (const std::string& text : {rule.match, rule.format, rule.method, rule.activations})
            add(text);
    add(std::to_string(recipe.outlierThreshold));
    return hash;
}

namespace {

std::map<TensorKey, Prediction> tensorLosses(const LossPredictor& predictor, const Recipe& recipe,
                                             double kld) {
    std::map<TensorKey, Prediction> found;
    for (const TensorSensitivity& tensor : predictor.sensitivities().tensors)
        found[tensor.key] = predictor.tensorLoss(recipe, tensor.key, kld);
    return found;
}

/// Methods that compete at some 4.6 bits.
constexpr std::array kCompared = {"int4_g128", "nf4", "hqq", "awq", "gptq"};

std::vector<double> lossesByBlock(const LossPredictor& predictor, const Recipe& recipe) {
    const auto whole = predictor.find(recipe);
    std::vector<double> found(static_cast<size_t>(predictor.model().config.layers));
    for (const auto& [key, loss] : tensorLosses(predictor, recipe, whole ? whole->kld : 0))
        if (key.layer >= 0)
            found[static_cast<size_t>(key.layer)] += loss.kld;
    return found;
}

} // namespace

std::optional<Prediction> Workbench::prediction(const Recipe& recipe) const {
    return predictionOf(rulesHash(recipe));
}

std::optional<Prediction> Workbench::predictionOf(uint64_t rules) const {
    const auto at = m_predictions.find(rules);
    return at == m_predictions.end() ? std::nullopt : std::optional(at->second);
}

std::optional<Prediction> Workbench::tensorLoss(TensorKey key) const {
    const auto at = m_tensorLosses.find(key);
    return at == m_tensorLosses.end() ? std::nullopt : std::optional(at->second);
}

void Workbench::take(Forecasts forecasts) {
    if (forecasts.forecast) {
        m_forecast = forecasts.forecast;
        m_mixed = std::move(forecasts.mixed);
        m_layerLosses = std::move(forecasts.layers);
    }
    m_predictions.merge(forecasts.recipes);
    if (!forecasts.tensors.empty()) {
        m_tensorLosses = std::move(forecasts.tensors);
        m_tensorLossRecipe = forecasts.tensorsOf;
    }
    emit predictionsChanged();
}

void Workbench::predictLosses(int windows) {
    if (!m_model || isPredicting())
        return;
    PredictorOptions options;
    const auto on = device();
    options.sensitivity.device = on ? on->id : m_options.device;
    options.calibration = m_options.calibration;
    options.sensitivity.windows = windows;
    options.sensitivity.context = std::min(512, std::max(16, m_model->config.contextLength));
    m_forecastJob = m_jobs.onDevice<Forecasts>(
        Priority::Calibrate, QStringLiteral("forecast"), tr("Finding what each tensor costs"), this,
        [model = m_model, recipe = m_recipe, options](const Progress& p) {
            Forecasts found;
            found.forecast = std::make_shared<Forecast>(model, options, p);
            LossPredictor& predictor = found.forecast->predictor;
            std::vector<Recipe> recipes;
            for (const Level& level : levels())
                recipes.push_back(level.make(*model));
            found.mixed = found.forecast->planner.plan(kMixedBudget).recipe;
            recipes.push_back(*found.mixed);
            recipes.push_back(recipe);
            predictor.estimateAll(recipes, p);
            for (const Recipe& each : recipes)
                if (const auto prediction = predictor.find(each))
                    found.recipes[rulesHash(each)] = *prediction;
            for (const char* level : kCompared)
                found.layers[level] = lossesByBlock(predictor, levelRecipe(level, *model));
            found.tensorsOf = rulesHash(recipe);
            found.tensors = tensorLosses(predictor, recipe, predictor.find(recipe)->kld);
            return found;
        },
        [this, measurements = m_measurements](Forecasts found) {
            m_forecastJob = 0;
            if (measurements != m_measurements)
                return;
            take(std::move(found));
            sizeLevels();
            predictRecipe();
            findBudgetRanges();
        },
        [this](const Failure& failure) {
            m_forecastJob = 0;
            emit predictionsChanged();
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
    emit predictionsChanged();
}

/// Of the edited recipe, when it is not known.
void Workbench::predictRecipe() {
    if (!m_forecast || m_tensorLossRecipe == m_edited.rules)
        return;
    m_tensorLosses.clear(); // they are another recipe's
    m_tensorLossRecipe = 0;
    m_jobs.onPool<Forecasts>(
        QStringLiteral("predictRecipe"), {}, this,
        [forecast = m_forecast, recipe = m_recipe](const Progress& p) {
            const std::lock_guard lock(forecast->mutex);
            Forecasts found;
            const Prediction prediction = forecast->predictor.predict(recipe, p);
            found.recipes[rulesHash(recipe)] = prediction;
            found.tensorsOf = rulesHash(recipe);
            found.tensors = tensorLosses(forecast->predictor, recipe, prediction.kld);
            return found;
        },
        [this, measurements = m_measurements](Forecasts found) {
            if (measurements == m_measurements && found.tensorsOf == m_edited.rules)
                take(std::move(found));
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
}

/// Of what runs now, on the last prompt.
void Workbench::measurePrompt() {
    m_promptLoss.reset();
    emit qualityChanged();
    if (!m_lastRequest)
        return;
    m_jobs.onDevice<PromptLoss>(
        Priority::Measure, QStringLiteral("prompt"), {}, this,
        [engine = m_engine, request = *m_lastRequest](const Progress& p) {
            return engine->promptLoss(request, p);
        },
        [this, measurements = m_measurements, hash = m_runningRecipe.hash()](PromptLoss loss) {
            if (measurements != m_measurements || hash != m_runningRecipe.hash())
                return;
            m_promptLoss = loss;
            emit qualityChanged();
        });
}

std::pair<double, double> Workbench::budgetRange(Budget::Of of) const {
    const auto at = m_budgetRanges.find(of);
    return at == m_budgetRanges.end() ? std::pair(0.0, 0.0) : at->second;
}

std::optional<Budget> Workbench::heldBudget() const {
    return m_budgetRules == m_edited.rules ? m_budget : std::nullopt;
}

/// That of memory depends on the context and on the device.
void Workbench::findBudgetRanges() {
    const auto on = device();
    if (!m_forecast || !on)
        return;
    using Ranges = std::map<Budget::Of, std::pair<double, double>>;
    m_jobs.onPool<Ranges>(
        QStringLiteral("ranges"), {}, this,
        [forecast = m_forecast, model = m_model, recipe = m_recipe, options = m_options,
         info = *on](const Progress&) {
            const std::lock_guard lock(forecast->mutex);
            const DeviceBudget budgets(forecast->planner, *model, recipe, options, info);
            Ranges found;
            for (const auto of :
                 {Budget::Of::Bits, Budget::Of::Bytes, Budget::Of::Memory, Budget::Of::Loss})
                found[of] = budgets.range(of);
            return found;
        },
        [this, measurements = m_measurements](Ranges found) {
            if (measurements != m_measurements)
                return;
            m_budgetRanges = std::move(found);
            emit predictionsChanged();
        });
}

void Workbench::keepMemoryBudget() {
    const auto held = heldBudget();
    if (!held || held->of != Budget::Of::Memory)
        return;
    endBudget();
    setBudget(*held);
    endBudget();
}

void Workbench::setBudget(const Budget& budget) {
    const auto on = device();
    if (!m_forecast || !on)
        return;
    m_jobs.onPool<Forecasts>(
        QStringLiteral("budget"), {}, this,
        [forecast = m_forecast, model = m_model, now = m_recipe, options = m_options, info = *on,
         budget](const Progress&) {
            const std::lock_guard lock(forecast->mutex);
            Forecasts found;
            const MixedPlan plan =
                DeviceBudget(forecast->planner, *model, now, options, info).plan(budget);
            found.mixed = plan.recipe;
            found.recipes[rulesHash(plan.recipe)] = plan.prediction;
            found.tensorsOf = rulesHash(plan.recipe);
            found.tensors = tensorLosses(forecast->predictor, plan.recipe, plan.prediction.kld);
            return found;
        },
        [this, budget, measurements = m_measurements, step = m_budgetStep](Forecasts found) {
            if (measurements != m_measurements)
                return;
            Recipe recipe = *found.mixed;
            found.mixed.reset();
            take(std::move(found));
            recipe.kFormat = m_recipe.kFormat;
            recipe.vFormat = m_recipe.vFormat;
            for (const TensorKey key : m_locked)
                if (const auto now = choice(key))
                    recipe.set(key, ruleFor(key, QString::fromUtf8(now->format->name),
                                            now->method ? QString::fromUtf8(now->method->name)
                                                        : QString()));
            m_budget = budget;
            m_budgetRules = rulesHash(recipe);
            if (recipe != m_recipe)
                m_undo.push(new RecipeStep(*this, m_recipe, recipe, recipeTitle(recipe), step));
            else
                emit predictionsChanged(); // the budget is another one
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
}

} // namespace nibble
