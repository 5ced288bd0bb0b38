#pragma once

#include <filesystem>
#include <string_view>

namespace nibble {

/// A file of resources/ ("text/evaluation.txt.z"): under NIBBLE_RESOURCES in the environment, else
/// in ../share/nibble beside the executable's folder, else in the source tree. The last when none
/// has it, so that opening it names a path.
std::filesystem::path resourcePath(std::string_view relative);

/// The bundled sample model.
std::filesystem::path sampleModelPath();

} // namespace nibble
