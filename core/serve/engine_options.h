#pragma once

#include "core/runtime/options.h"

#include <filesystem>
#include <optional>
#include <string>

namespace nibble {

struct EngineOptions {
    std::string device = "auto";
    int32_t context = 2048;
    std::optional<ActivationFormat> activations; ///< overrides the recipe's for every product
    /// Whether quantized matrices that stay as the base has them are multiplied with int8
    /// activations, as other engines do and as levels of the same formats are: two to three times
    /// as fast. What measures a base's own loss, or compares with it, takes floats.
    bool quickBase = false;
    std::optional<KvFormat> kv; ///< overrides the recipe's for K and V
    /// The first so many layers on `device`, the rest on the CPU; -1 = as many as fit there.
    int32_t gpuLayers = -1;
    /// Of the last so many layers that are mixtures the experts on the CPU, whatever lies on
    /// `device`; -1 = of as few as have to.
    int32_t cpuExperts = -1;
    /// A text, the user's chats (a folder) or an importance matrix; empty = the text that ships.
    std::filesystem::path calibration;
    friend bool operator==(const EngineOptions&, const EngineOptions&) = default;
};

} // namespace nibble
