#include "app/cli/arguments.h"

#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>

namespace nibble::cli {

void addModel(CLI::App& app, std::string& model, const char* name) {
    app.add_option(name, model, "A GGUF file, a safetensors folder, or \"sample\"")->required();
}

void addJson(CLI::App& app, bool& json) {
    app.add_flag("--json", json, "Print one JSON object");
}

std::filesystem::path modelPath(const std::string& argument) {
    return argument == "sample" ? sampleModelPath() : std::filesystem::path(argument);
}

std::shared_ptr<const Model> openModelArgument(const std::string& argument) {
    auto model = openModel(modelPath(argument));
    if (const std::string note = model->checkpoint->conversionNote(); !note.empty())
        std::fprintf(stderr, "%s\n", note.c_str());
    return model;
}

void requireTokens(const std::vector<TokenId>& tokens, int32_t size) {
    for (const TokenId token : tokens)
        if (token < 0 || token >= size)
            fail(ErrorKind::Usage, "Token {} is not in the vocabulary; ids go from 0 to {}.", token,
                 size - 1);
}

void RecipeArguments::addTo(CLI::App& app) {
    auto* named = app.add_option("--level", level, "A level by its name, such as int4_g128");
    app.add_option("--recipe", file, "A recipe as a JSON file")->excludes(named);
    addCalibration(app, calibration);
    app.add_option("--outlier-threshold", outlierThreshold,
                   "Activations of this magnitude and more are outliers for LLM.int8() (default: "
                   "as the recipe says, or 6)")
        ->check(CLI::PositiveNumber);
}

void addCalibration(CLI::App& app, std::string& file) {
    app.add_option("--calibration", file,
                   "For methods that look at data: a text file, or an importance matrix of "
                   "llama.cpp (default: the calibration text that ships)")
        ->check(CLI::ExistingFile);
}

Recipe RecipeArguments::recipe(const Model& model) const {
    Recipe recipe;
    if (!level.empty())
        recipe = levelRecipe(level, model);
    else if (!file.empty())
        recipe = Recipe::fromJson(readTextFile(file, limits::kJsonBytes), file);
    if (outlierThreshold)
        recipe.outlierThreshold = *outlierThreshold;
    return recipe;
}

std::string levelName(const Recipe& recipe) {
    return !recipe.name.empty() ? recipe.name : recipe.rules.empty() ? "base" : "recipe";
}

void RunArguments::addTo(CLI::App& app) {
    app.add_option("--device", device, "auto, cpu, cpu:scalar, vulkan or vulkan:N")
        ->capture_default_str();
    app.add_option("--activations", activations,
                   "float or int8, for every product (default: as the level says)");
    app.add_option("--kv", kv, "Format of keys and values: f32, f16, int8 or int4");
    app.add_option("--gpu-layers", gpuLayers,
                   "Run the first so many layers on the Vulkan device, the rest on the CPU");
}

EngineOptions RunArguments::options(int32_t context) const {
    EngineOptions options;
    options.device = device;
    options.context = context;
    if (!activations.empty())
        options.activations = activationFormat(activations);
    if (!kv.empty())
        options.kv = kvFormat(kv);
    options.gpuLayers = gpuLayers;
    if (gpuLayers == 0)
        options.device = "cpu";
    else if (gpuLayers > 0 && device == "auto")
        options.device = "vulkan";
    return options;
}

void addContext(CLI::App& app, int32_t& context) {
    app.add_option("--context", context,
                   "Tokens that fit (default: what the model was made for, 2048 at most)")
        ->check(CLI::Range(1, 1 << 24));
}

int32_t contextFor(const Model& model, int32_t given) {
    constexpr int32_t kUsual = 2048;
    if (given > 0)
        return given;
    const int32_t made = model.config.contextLength;
    return made > 0 ? std::min(kUsual, made) : kUsual;
}

std::string deviceText(const DeviceInfo& device) {
    return fmt::format("{} ({})", device.name, device.id);
}

} // namespace nibble::cli
