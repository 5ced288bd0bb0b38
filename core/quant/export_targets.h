#pragma once

#include "core/files/packings.h"
#include "core/quant/recipe.h"

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>
#include <vector>

namespace nibble {

/// What the linear layers of an exported folder have in common.
struct FolderScheme {
    const PackingWriter* writer = nullptr;
    const Format* format = nullptr;
    bool ordered = false;                  ///< some tensor has a column order
    std::vector<std::string> floatModules; ///< linear layers that are not quantized
};

/// A kind of folder that other engines load: one row in exportTargets().
struct ExportTarget {
    const char* name;   ///< "gptq"
    const char* title;  ///< "GPTQ"
    const char* folder; ///< "a GPTQ folder"
    const char* fits;   ///< the formats that it holds, in words
    bool keepsFloats;   ///< single linear layers may stay floats
    /// How a linear layer is written.
    const PackingWriter& (*writerOf)(const TensorChoice& choice);
    /// config.json's "quantization_config".
    nlohmann::ordered_json (*config)(const FolderScheme& scheme);
    /// The file that the same goes into as well, or null.
    const char* configFile;
    /// Layers whose folders keep them as [inputs][outputs] are quantized like others.
    bool turnsMatrices = false;
};
std::span<const ExportTarget> exportTargets();
/// Error{Usage} that lists the known names.
const ExportTarget& getExportTarget(std::string_view name);

} // namespace nibble
