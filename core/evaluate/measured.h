#pragma once

#include "core/evaluate/probes.h"
#include "core/evaluate/quality.h"

namespace nibble {

/// Keeps in cacheFolder() what was measured of a recipe against its base, with its own activations,
/// so that the receipt of a later export can say it. The newest of a recipe stays; nothing happens
/// where there is no such folder.
void keepMeasured(const Model& base, const Recipe& recipe, const Calibration* calibration,
                  const QualityReport& quality, const ProbeReport* probes = nullptr);

/// What a receipt says beside model and recipe: the newest measurement of this recipe, made with
/// this calibration (null = none).
ExportNotes keptNotes(const Model& base, const Recipe& recipe, const Calibration* calibration);

/// A measurement as receipts carry it: {"text", "text_hash", "windows", "context", "tokens",
/// "device", "kld_mean", "kld_error", "same_top", "ppl", "ppl_error", "base_ppl", "accuracy",
/// "accuracy_error", "questions"}; the last three null when no questions were asked.
std::string measuredJson(const QualityReport& quality, const ProbeReport* probes);

} // namespace nibble
