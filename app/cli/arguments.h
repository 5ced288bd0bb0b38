#pragma once

#include "core/evaluate/mixed.h"
#include "core/serve/engine.h"

#include <CLI/CLI.hpp>

#include <memory>
#include <optional>
#include <string>

namespace nibble::cli {

/// The MODEL argument of most commands.
void addModel(CLI::App& app, std::string& model, const char* name = "MODEL");
/// --json.
void addJson(CLI::App& app, bool& json);
/// The path that a MODEL argument stands for: "sample" is the bundled model.
std::filesystem::path modelPath(const std::string& argument);
std::shared_ptr<const Model> openModelArgument(const std::string& argument);
/// Error{Usage} for an id that is no token of the model's vocabulary of `size`.
void requireTokens(const std::vector<TokenId>& tokens, int32_t size);

/// --level, --recipe, or a budget (--budget, --bits, --memory, --kld), at most one of them; and
/// --calibration and --outlier-threshold.
struct RecipeArguments {
    std::string level, file, calibration;
    std::optional<uint64_t> bytes, memory;
    std::optional<double> bits, kld;
    std::optional<float> outlierThreshold;

    void addTo(CLI::App& app);
    bool given() const { return !level.empty() || !file.empty() || budget(); }
    /// What a mixed recipe must keep to; nothing where another recipe is asked for.
    std::optional<Budget> budget() const;
    /// The level's or the file's recipe, or the best for the budget, measured on `device`; without
    /// any the one that keeps the model as stored.
    Recipe recipe(const std::shared_ptr<const Model>& model, const std::string& device) const;
};
void addCalibration(CLI::App& app, std::string& file);
/// To stderr, where a calibration (null = none) rests on little text.
void sayThin(const Calibration* calibration);
void addOutlierThreshold(CLI::App& app, std::optional<float>& threshold);
/// The recipe's name, or "base" for the model as it is stored.
std::string levelName(const Recipe& recipe);

/// --device, --activations, --kv, --gpu-layers, --cpu-experts: wherever a model runs.
struct RunArguments {
    std::string device = "auto", activations, kv;
    int32_t gpuLayers = -1, cpuExperts = -1;

    void addTo(CLI::App& app);
    EngineOptions options(int32_t context) const;
};
/// --context with 0 for "not given".
void addContext(CLI::App& app, int32_t& context);
/// The context to use: as given, else what the model was made for, 2048 at most.
int32_t contextFor(const Model& model, int32_t given);

/// "llvmpipe (LLVM 15.0.6, 256 bits) (vulkan:0)": the device in words.
std::string deviceText(const DeviceInfo& device);

} // namespace nibble::cli
