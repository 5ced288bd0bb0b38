#pragma once

#include "core/model/model.h"
#include "core/quant/calibration.h"

#include <filesystem>
#include <memory>

namespace nibble {

/// Whether a file's first bytes are those of an importance matrix (GGUF of that type, or
/// llama.cpp's older "imatrix.dat"), and not a text's.
bool isImatrix(const std::filesystem::path& path);

/// An importance matrix made by llama.cpp, or written by writeImatrix(). Of files from elsewhere
/// only the channels' energies are known: methods that need more say so. Error{BadInput} when it
/// belongs to another model, names the tensor.
std::shared_ptr<const Calibration> readImatrix(const Model& model,
                                               const std::filesystem::path& path);

/// The calibration as the GGUF file that llama.cpp's quantizer takes, with maxima, mean
/// magnitudes and percentiles beside it, which it passes over. Atomic.
void writeImatrix(const Model& model, const Calibration& calibration,
                  const std::filesystem::path& path);

} // namespace nibble
