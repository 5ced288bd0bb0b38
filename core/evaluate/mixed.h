#pragma once

#include "core/evaluate/loss_model.h"
#include "core/quant/allocate.h"

namespace nibble {

/// What a mixed recipe must keep to.
struct Budget {
    enum class Of : uint8_t {
        Bytes,  ///< of all tensors in a file
        Bits,   ///< per weight, in a file
        Memory, ///< of all tensors as they are kept in memory
        Loss,   ///< predicted KLD
    } of = Of::Bits;
    double value = 4.5;
};

/// The level that is no fixed recipe but the best one found for a budget, and the budget that it
/// has where none is given.
inline constexpr const char* kMixedLevel = "mixed";
inline constexpr Budget kMixedBudget{Budget::Of::Bits, 4.5};

/// What one tensor may be stored as in a mixed recipe.
struct MixedOption {
    std::string format, method, activations;
    friend bool operator==(const MixedOption&, const MixedOption&) = default;
};
/// From small to large; a tensor may also stay as it is stored. All of them can be written to a
/// GGUF file, so that what was found here survives the export.
std::span<const MixedOption> mixedOptions();

/// A recipe that keeps to a budget.
struct MixedPlan {
    Recipe recipe;
    RecipeSize size;
    Prediction prediction;
    bool kept = true; ///< false: even the least that is possible is beyond the budget
};

/// Finds the recipe with the least predicted loss within a budget. Estimates every option's error
/// once; plan() then takes milliseconds, so that a slider can drive it.
class MixedPlanner {
public:
    explicit MixedPlanner(LossPredictor& predictor, const Progress& progress = {});

    MixedPlan plan(const Budget& budget) const;
    /// Bytes in a file of the smallest and of the best recipe.
    uint64_t leastBytes() const { return m_file->leastBytes(); }
    uint64_t mostBytes() const { return m_file->mostBytes(); }

private:
    Recipe recipeOf(const Allocation& allocation) const;
    void finish(const Allocation& allocation, MixedPlan& plan) const;

    LossPredictor& m_predictor;
    std::vector<TensorKey> m_keys;
    /// [tensor]: rules without their match, one for each StorageOption; an empty format stays.
    std::vector<std::vector<RecipeRule>> m_rules;
    uint64_t m_otherFile = 0, m_otherMemory = 0; ///< of the tensors that are no matrices
    std::optional<Allocator> m_file, m_memory;
};

/// The best recipe for a budget. Error{Usage} that says what is possible when there is none.
MixedPlan mixedPlan(const std::shared_ptr<const Model>& model, const Budget& budget,
                    const PredictorOptions& predictor, const Progress& progress = {});

} // namespace nibble
