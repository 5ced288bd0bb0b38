#pragma once

#include "core/base/progress.h"
#include "core/calibrate/text.h"
#include "core/model/model.h"
#include "core/quant/output_error.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace nibble {

/// The matrices that are measured as one: the same matrix of all experts of a layer, which have one
/// format; any other by itself. The first stands for all.
std::vector<TensorKey> measuredWith(const Model& model, TensorKey key);
/// The first of them, under which their common error is kept.
TensorKey measuredAs(TensorKey key);

/// What a recipe does to such matrices together: of experts, the mean over those that the
/// calibration's tokens chose most, by tokens.
OutputError errorTogether(Quantizer& quantizer, const Model& model, const Recipe& recipe,
                          const Calibration& calibration, TensorKey key,
                          const Progress& progress = {});

/// How much the output suffers from one matrix, measured by rounding this matrix alone. KLD grows
/// with the square of a small disturbance, and so in proportion to relative output errors, which
/// are squares themselves; matrices that lose much are measured at several errors.
struct TensorSensitivity {
    struct Point {
        double error = 0, kld = 0;
    };
    TensorKey key;
    std::vector<Point> points = {}; ///< by error, ascending; at least one
    /// Of a table's look-up error beside its product's: error = product + lookupWeight · lookup.
    double lookupWeight = 1;
    double relativeError = 0; ///< standard error of the first point's KLD, as a fraction of it

    double errorOf(const OutputError& error) const {
        return error.product + lookupWeight * error.lookup;
    }
    /// Between points on straight lines of the logarithms, outside them in proportion.
    double kld(double error) const;
};

/// What rounding all matrices of the layers at once really loses, beside the sum of what each alone
/// is predicted to: small errors overlap, large ones add to each other, and a method that minimizes
/// the error on the calibration's text does so nowhere else quite as well, least with few bits.
struct Together {
    std::string method, format;
    double predicted = 0, measured = 0;
};

/// What sensitivities are measured on: `tensors` one tensor at a time, `wholes` all at once. The
/// second is the text that predictions are for: some texts lose more than others, by any recipe.
struct SensitivityTexts {
    EvaluationText tensors, wholes;
};

/// The sensitivities of a model's matrices, in the order of Model::keys(); of a layer's experts the
/// first ones'.
struct Sensitivities {
    std::string text; ///< label
    int32_t windows = 0, context = 0;
    int64_t tokens = 0; ///< scored
    std::vector<TensorSensitivity> tensors;
    std::vector<Together> together;

    /// Of experts, any one finds what all have.
    const TensorSensitivity* find(TensorKey key) const;
    /// Real over predicted loss of what `method` makes of `format`, where the whole recipe is
    /// predicted to lose `predicted`: plain rounding's, measured at several losses, times the
    /// method's own share, measured at several formats and between them by their bits.
    double correction(std::string_view method, const Format& format, double predicted) const;
};

struct SensitivityOptions {
    std::string device = "auto";
    int32_t context = 512;
    int32_t windows = 8; ///< at most; fewer where the base's logits would take too much memory
};

/// Gives the model's calibration, with moments.
using CalibrationSource =
    std::function<std::shared_ptr<const Calibration>(const Progress& progress)>;

/// Rounds one matrix after the other and runs the text from its layer on (half a forward pass a
/// matrix), then all of them. `known` is continued (empty = from the start); `onLayer` gets what is
/// there after every layer, so that an interrupted measurement can go on. Error{BadInput} for a
/// text that is too short, Error{Cancelled}.
Sensitivities measureSensitivities(const std::shared_ptr<const Model>& model,
                                   const SensitivityTexts& texts,
                                   const CalibrationSource& calibration,
                                   const SensitivityOptions& options, Sensitivities known = {},
                                   const Progress& progress = {},
                                   const std::function<void(const Sensitivities&)>& onLayer = {});

} // namespace nibble
