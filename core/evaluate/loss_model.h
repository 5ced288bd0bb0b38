#pragma once

#include "core/evaluate/sensitivity.h"
#include "core/quant/output_error.h"

#include <filesystem>
#include <map>
#include <optional>

namespace nibble {

/// What is known of a model's losses, as it is kept on disk.
struct LossModel {
    Sensitivities sensitivities;
    /// By what makes the tensor (LossPredictor::choiceName).
    std::map<std::string, std::map<TensorKey, OutputError>> errors;
};
/// JSON on one line. Unreadable files are as good as none: the result can be measured again.
std::string lossModelJson(const LossModel& known);
std::optional<LossModel> readLossModel(const std::filesystem::path& path);

/// KLD that a recipe is predicted to have.
struct Prediction {
    double kld = 0;
    /// Of a measurement on other text of the same kind: it lies within ± error in some 95 of 100
    /// cases.
    double error = 0;
};

struct PredictorOptions {
    SensitivityOptions sensitivity;
    std::filesystem::path calibration; ///< a text or an importance matrix; empty = what ships
    bool cached = true;                ///< read from and kept in cacheFolder(), calibration as well
};

/// Predicts the loss of any recipe from each matrix's sensitivity and the error that the recipe
/// makes there, as a sum over the matrices.
class LossPredictor {
public:
    /// Measures the sensitivities, or finds them kept; continues where an earlier run was stopped.
    /// On the texts that ship: tensors on the one for calibration, wholes on that for evaluation.
    explicit LossPredictor(std::shared_ptr<const Model> model, PredictorOptions options = {},
                           const Progress& progress = {});

    /// Estimates what is not known of the recipe's tensors, and keeps it.
    Prediction predict(const Recipe& recipe, const Progress& progress = {});
    /// Estimates what is not known of several recipes, tensor by tensor, which costs hardly more
    /// than one of them.
    void estimateAll(std::span<const Recipe> recipes, const Progress& progress = {});
    /// The same as predict() without computing anything: nothing when something is not known.
    std::optional<Prediction> find(const Recipe& recipe) const;
    /// Of one tensor, which predict() or find() has seen, beside others that lose `beside`
    /// together; 0 for one that stays as it is stored.
    Prediction tensorLoss(const Recipe& recipe, TensorKey key, double beside) const;

    const Sensitivities& sensitivities() const { return m_known.sensitivities; }
    const Model& model() const { return *m_model; }

private:
    std::string choiceName(const Recipe& recipe, TensorKey key) const;
    const OutputError* findError(const Recipe& recipe, TensorKey key) const;
    std::shared_ptr<const Calibration> calibration(const Progress& progress);
    void keep() const;

    std::shared_ptr<const Model> m_model;
    SensitivityTexts m_texts{shippedCalibrationText(), shippedEvaluationText()};
    PredictorOptions m_options;
    std::filesystem::path m_file; ///< empty = not kept
    LossModel m_known;
    std::shared_ptr<const Calibration> m_calibration;
    std::shared_ptr<FeedbackCache> m_feedback = std::make_shared<FeedbackCache>();
};

} // namespace nibble
