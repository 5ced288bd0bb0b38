#pragma once

#include "core/quant/recipe.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace nibble {

class Quantizer;

inline constexpr const char* kReceiptKey = "nibble.receipt";
inline constexpr const char* kFolderReceipt = "nibble-receipt.json";
/// "OUT.receipt.json", beside a file.
std::filesystem::path receiptPath(const std::filesystem::path& file);

/// How an exported model was made, as a JSON object on one line: {"program", "version",
/// "container", "base": {"name", "architecture", "hash", "hash_of"}, "recipe", "recipe_hash",
/// "bytes", "bits_per_weight", "calibration", "measurements"}; the last two null when not given.
/// `calibration` may be null.
std::string receiptJson(const Model& model, const Recipe& recipe, std::string_view container,
                        const Calibration* calibration, const ExportNotes& notes);
/// The same on many lines, as it is written beside the file, with what is known only afterwards:
/// "damped" {tensor: damping}, where there is any.
std::string receiptText(const std::string& receipt, const ExportReport& report = {});
/// ExportReport of what a quantizer did.
ExportReport exportReport(const Quantizer& quantizer);

/// Tells two bases apart without reading them whole: a hash of the names, shapes, types and the
/// first and last 4096 bytes of every tensor.
uint64_t checkpointHash(const Checkpoint& checkpoint);

} // namespace nibble
