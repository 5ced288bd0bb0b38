#pragma once

#include "core/evaluate/mixed.h"
#include "core/evaluate/probes.h"
#include "core/evaluate/quality.h"

#include <algorithm>

namespace nibble {

/// Windows that a ladder scores unless told: enough to rank levels, in seconds for a small model.
inline constexpr int32_t kLadderWindows = 32;

/// One level of a model, measured or only sized.
struct LadderRow {
    std::string level;
    Recipe recipe;
    RecipeSize size;
    MemoryUse memory; ///< predicted for the asked context on the device
    bool fits = false;
    bool measured = false;
    QualityReport quality;
    std::optional<ProbeReport> probes; ///< when questions were asked
    double generateTps = 0, promptTps = 0;
    double makeSeconds = 0; ///< from the base to the loaded variant, a first calibration included
    /// A sentence when the level could not be measured. One that cannot even be made has size 0.
    std::string problem;
};

/// Of the levels that fit: the smallest whose loss is hardly noticeable, else the one that loses
/// least; before any is measured, the one with the most bits.
struct Recommendation {
    /// KLD up to which answers hardly change.
    static constexpr double kSmallLoss = 0.02;
    size_t row = 0;
    bool measured = false;
    bool smallLoss = false;
    double sizeShare = 0;  ///< of the base's bytes
    double speedRatio = 0; ///< to the 16-bit level's tokens a second; 0 = not measured
};
/// Nothing when no level fits.
std::optional<Recommendation> recommendLevel(const std::vector<LadderRow>& rows,
                                             uint64_t baseBytes);

struct LadderOptions {
    std::vector<std::string> levels; ///< empty = all, "mixed" (mixed.h) included
    Budget mixed = kMixedBudget;
    std::string device = "auto";
    int32_t context = 2048;
    EvaluateOptions evaluate{.spread = true};
    std::vector<Probe> probes;             ///< questions that every level answers, too
    std::filesystem::path calibration;     ///< a text or an importance matrix; empty = what ships
    std::optional<float> outlierThreshold; ///< LLM.int8()'s; unset = as the levels have it
    bool speed = true;

    /// Windows that the mixed level's sensitivities are measured on: no more than levels are.
    int32_t sensitivityWindows() const {
        const int32_t usual = SensitivityOptions{}.windows;
        return evaluate.chunks > 0 ? std::min(evaluate.chunks, usual) : usual;
    }
};

/// All that can be chosen by name: levels(), and "mixed", whose recipe is found for a budget.
struct LadderLevel {
    const char *name, *title, *about; ///< as Level's
};
const std::vector<LadderLevel>& ladderLevels();
/// "INT4 g128". Error{Usage} for a name that is not known.
std::string ladderTitle(std::string_view level);

/// Measures every level on the same windows. The base runs once on the windows whose logits fit
/// BaseLogits::kLimit, and in lockstep with each level on the others; one variant is loaded and
/// only its tensors are exchanged. Calls back as rows land.
std::vector<LadderRow> measureLadder(std::shared_ptr<const Model> model, const EvaluationText& text,
                                     const LadderOptions& options, const Progress& progress = {},
                                     const std::function<void(const LadderRow&)>& onRow = {});

} // namespace nibble
