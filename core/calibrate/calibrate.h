#pragma once

#include "core/calibrate/text.h"
#include "core/model/model.h"
#include "core/quant/recipe.h"

#include <memory>

namespace nibble {

struct CalibrateOptions {
    int32_t context = 512;    ///< tokens of a window, shorter where the model's context is
    int32_t windows = 64;     ///< windows read, fewer where the text has fewer
    int32_t sampleRows = 128; ///< tokens whose inputs are kept as they are
    /// Second moments are kept while they fit into so many bytes, else they are computed again, a
    /// layer at a time, when a method asks for them.
    uint64_t momentBytes = 1ull << 30;
    bool moments = true; ///< whether they may be asked for
    /// Found on disk, or kept there layer by layer, so that what a cancel or crash leaves undone is
    /// all that is done again.
    bool cached = true;
};

/// Runs the text's windows through the base, layer by layer: of the weights only one layer, of the
/// activations one row of hidden values for each token are in memory. On the CPU, in float. The
/// result does not keep the model open; moments that have to be computed need it to be.
/// Error{BadInput} for a text with less than one window, Error{Cancelled}.
std::shared_ptr<const Calibration> calibrate(const std::shared_ptr<const Model>& model,
                                             const EvaluationText& text,
                                             const CalibrateOptions& options = {},
                                             const Progress& progress = {});

/// A sentence about a calibration that rests on little text, else empty.
std::string thinness(const Calibration& calibration);

/// The text that a path stands for: the one that ships where it is empty, the user's own chats
/// where it is a folder or a ".chat" file (chat_text.h), else a text file. Error{BadInput} when it
/// cannot be read, or is no text.
EvaluationText calibrationText(const Model& model, const std::filesystem::path& path);

/// What a path that a person chose is, before anything is calibrated with it.
struct CalibrationChoice {
    std::string label;  ///< "own chats (12 conversations)", or a file name
    int64_t tokens = 0; ///< of the text, in the model's vocabulary; 0 = an importance matrix
};
/// Error{BadInput} when the model cannot be calibrated with it, as calibrationFromFile() says.
CalibrationChoice lookAtCalibration(const std::shared_ptr<const Model>& model,
                                    const std::filesystem::path& path);

/// A calibration from a path: an importance matrix, or a text (calibrationText()) that the model
/// reads now.
std::shared_ptr<const Calibration> calibrationFromFile(const std::shared_ptr<const Model>& model,
                                                       const std::filesystem::path& file,
                                                       const Progress& progress = {},
                                                       const CalibrateOptions& options = {});

/// The calibration from `file`, or with the text that ships where that is empty. Each model's last
/// one stays in memory as long as the model is open, so that who asks again finds it made: chats
/// that go on meanwhile do not change it.
std::shared_ptr<const Calibration> sharedCalibration(const std::shared_ptr<const Model>& model,
                                                     const Progress& progress = {},
                                                     const std::filesystem::path& file = {},
                                                     const CalibrateOptions& options = {});

/// The calibration that a recipe's methods need, from `file` or, where that is empty, the text that
/// ships; null when they need none. Shared like the above.
std::shared_ptr<const Calibration> calibrationFor(const std::shared_ptr<const Model>& model,
                                                  const Recipe& recipe,
                                                  const Progress& progress = {},
                                                  const std::filesystem::path& file = {});

} // namespace nibble
