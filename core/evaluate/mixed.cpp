#include "core/evaluate/mixed.h"

#include "core/base/error.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace nibble {
namespace {

constexpr const char* kMethod = "gptq";
constexpr const char* kActivations = "int8";
const MixedOption kOptions[] = {
    {"q2_k", kMethod, kActivations},   {"q3_k", kMethod, kActivations},
    {"iq4_xs", kMethod, kActivations}, {"q4_k", kMethod, kActivations},
    {"q5_k", kMethod, kActivations},   {"q6_k", kMethod, kActivations},
    {"q8_0", kMethod, kActivations},
};

/// Whole recipes of some 4 bits lose that much: where methods are compared with each other.
constexpr double kUsualLoss = 2e-3;

/// What a rule says beside its match.
using Made = std::tuple<std::string, std::string, std::string>;
Made madeBy(const RecipeRule& rule) {
    return {rule.format, rule.method, rule.activations};
}

} // namespace

std::span<const MixedOption> mixedOptions() {
    return kOptions;
}

MixedPlanner::MixedPlanner(LossPredictor& predictor, const Progress& progress)
    : m_predictor(predictor) {
    const Model& model = predictor.model();
    std::vector<Recipe> recipes(1); // the first leaves all as it is stored
    for (const MixedOption& option : mixedOptions()) {
        recipes.emplace_back().rules.push_back({.match = "*",
                                                .format = option.format,
                                                .method = option.method,
                                                .activations = option.activations});
    }
    predictor.estimateAll(recipes, progress);

    std::vector<std::vector<StorageOption>> file, memory;
    std::map<TensorKey, size_t> places; // of what lies in one stored tensor, and gets one format
    for (const TensorSensitivity& tensor : predictor.sensitivities().tensors) {
        const TensorKey key = tensor.key;
        const auto [place, isNew] =
            places.try_emplace(model.storedWith(key).front(), m_keys.size());
        if (isNew) {
            m_keys.push_back(key);
            m_rules.emplace_back();
            file.emplace_back();
            memory.emplace_back();
        }
        auto& rules = m_rules[place->second];
        auto& inFile = file[place->second];
        auto& inMemory = memory[place->second];
        // All experts' where the key stands for them.
        const std::vector<TensorKey> all = measuredWith(model, key);
        const auto fileBytes = [&](const Recipe& recipe) {
            uint64_t bytes = 0;
            for (const TensorKey each : all)
                bytes += recipeFileBytes(model, recipe, each);
            return bytes;
        };
        const auto memoryBytes = [&](const Recipe& recipe) {
            uint64_t bytes = 0;
            for (const TensorKey each : all)
                bytes += recipeBytes(model, recipe, each);
            return bytes;
        };
        const uint64_t stored = fileBytes(recipes.front());
        std::vector<std::string> taken;
        for (const Recipe& recipe : recipes) {
            const TensorChoice choice = recipe.choose(model, key);
            const uint64_t bytes = fileBytes(recipe);
            const std::string made = choice.format ? choice.format->name : "";
            // Several options may fall back to one format where rows are short; and what is no
            // smaller than the stored tensor gains nothing.
            if (std::find(taken.begin(), taken.end(), made) != taken.end() ||
                (choice.format && bytes >= stored))
                continue;
            const size_t option = taken.size();
            taken.push_back(made);
            const Prediction loss = predictor.tensorLoss(recipe, key, kUsualLoss);
            if (isNew) {
                rules.push_back(recipe.rules.empty() ? RecipeRule{} : recipe.rules.front());
                inFile.emplace_back();
                inMemory.emplace_back();
            }
            const double variance = loss.error * loss.error / 4;
            for (auto* options : {&inFile, &inMemory}) {
                StorageOption& sum = (*options)[option];
                sum.bytes += options == &inFile ? bytes : memoryBytes(recipe);
                sum.loss += loss.kld;
                sum.variance += variance;
            }
        }
    }
    for (const TensorKey key : model.keys())
        if (!isMatrix(key.role)) {
            m_otherFile += recipeFileBytes(model, Recipe{}, key);
            m_otherMemory += recipeBytes(model, Recipe{}, key);
        }
    m_file.emplace(std::move(file));
    m_memory.emplace(std::move(memory));
}

Recipe MixedPlanner::recipeOf(const Allocation& allocation) const {
    const auto ruleOf = [&](size_t i) -> const RecipeRule& {
        return m_rules[i][static_cast<size_t>(allocation.choice[i])];
    };
    // What most tensors get becomes the rule for all.
    std::map<Made, int> counts;
    for (size_t i = 0; i < m_keys.size(); ++i)
        if (!ruleOf(i).format.empty())
            ++counts[madeBy(ruleOf(i))];
    Recipe recipe;
    recipe.name = "mixed";
    if (counts.empty())
        return recipe;
    const Made usual = std::max_element(counts.begin(), counts.end(), [](auto& a, auto& b) {
                           return a.second < b.second;
                       })->first;
    const auto& [format, method, activations] = usual;
    recipe.rules.push_back(
        {.match = "*", .format = format, .method = method, .activations = activations});
    for (size_t i = 0; i < m_keys.size(); ++i)
        if (madeBy(ruleOf(i)) != usual)
            recipe.set(m_keys[i], ruleOf(i));
    return recipe;
}

void MixedPlanner::finish(const Allocation& allocation, MixedPlan& plan) const {
    plan.recipe = recipeOf(allocation);
    plan.size = recipeSize(m_predictor.model(), plan.recipe);
    plan.prediction = *m_predictor.find(plan.recipe);
}

MixedPlan MixedPlanner::plan(const Budget& budget) const {
    const Model& model = m_predictor.model();
    const auto less = [](double value, uint64_t other) {
        return value > static_cast<double>(other) ? static_cast<uint64_t>(value) - other : 0;
    };
    Allocation found;
    MixedPlan plan;
    switch (budget.of) {
    case Budget::Of::Bytes:
        found = m_file->within(less(budget.value, m_otherFile));
        break;
    case Budget::Of::Bits:
        found = m_file->within(
            less(budget.value * static_cast<double>(model.parameters()) / 8, m_otherFile));
        break;
    case Budget::Of::Memory:
        found = m_memory->within(less(budget.value, m_otherMemory));
        break;
    case Budget::Of::Loss:
        found = m_file->atMost(budget.value);
        break;
    }
    finish(found, plan);
    // The solver adds up losses as if the recipe's own did not matter to them: its target is moved
    // until what is predicted for the whole comes close below the budget.
    double target = budget.value, kept = 0, beyond = 0, predicted = plan.prediction.kld;
    for (int i = 0; budget.of == Budget::Of::Loss && i < 8 && predicted > 0; ++i) {
        (predicted <= budget.value ? kept : beyond) = target;
        target = kept > 0 && beyond > 0
                     ? std::sqrt(kept * beyond)
                     : target * std::clamp(budget.value / predicted, 0.5, 2.0) * 0.999;
        MixedPlan next;
        finish(m_file->atMost(target), next);
        predicted = next.prediction.kld;
        const bool keeps = next.prediction.kld <= budget.value;
        const bool held = plan.prediction.kld <= budget.value;
        if (keeps ? !held || next.size.bytes < plan.size.bytes
                  : !held && next.prediction.kld < plan.prediction.kld)
            plan = std::move(next);
    }
    switch (budget.of) {
    case Budget::Of::Bytes:
        plan.kept = static_cast<double>(plan.size.bytes) <= budget.value;
        break;
    case Budget::Of::Bits:
        plan.kept = plan.size.bitsPerWeight <= budget.value;
        break;
    case Budget::Of::Memory:
        plan.kept = static_cast<double>(plan.size.residentBytes) <= budget.value;
        break;
    case Budget::Of::Loss:
        plan.kept = plan.prediction.kld <= budget.value * (1 + 1e-9);
        break;
    }
    return plan;
}

MixedPlan mixedPlan(const std::shared_ptr<const Model>& model, const Budget& budget,
                    const PredictorOptions& options, const Progress& progress) {
    LossPredictor predictor(model, options, progress);
    const MixedPlanner planner(predictor, progress);
    MixedPlan plan = planner.plan(budget);
    if (plan.kept)
        return plan;
    if (budget.of == Budget::Of::Loss)
        fail(ErrorKind::Usage,
             "No recipe is predicted to lose only {}; the best takes {} bytes and loses {:.2g}.",
             budget.value, plan.size.bytes, plan.prediction.kld);
    fail(ErrorKind::Usage,
         "No recipe is that small; the smallest takes {} bytes ({:.2f} bits per weight) for this "
         "model, {} in memory.",
         plan.size.bytes, plan.size.bitsPerWeight, plan.size.residentBytes);
}

} // namespace nibble
