#include "app/cli/arguments.h"

#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/quant/quantizer.h"

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
    if (model->tokenizer)
        for (const std::string& warning : model->tokenizer->info().warnings)
            std::fprintf(stderr, "Warning: %s\n", warning.c_str());
    return model;
}

void requireTokens(const std::vector<TokenId>& tokens, int32_t size) {
    for (const TokenId token : tokens)
        if (token < 0 || token >= size)
            fail(ErrorKind::Usage, "Token {} is not in the vocabulary; ids go from 0 to {}.", token,
                 size - 1);
}

void RecipeArguments::addTo(CLI::App& app) {
    const std::vector<CLI::Option*> choices = {
        app.add_option("--level", level, "A level by its name, such as int4_g128"),
        app.add_option("--recipe", file, "A recipe as a JSON file"),
        app.add_option("--budget", bytes, "The best mixed recipe within so many bytes"),
        app.add_option("--bits", bits, "The best mixed recipe within so many bits per weight")
            ->check(CLI::PositiveNumber),
        app.add_option("--memory", memory,
                       "The best mixed recipe whose weights take so many bytes of memory"),
        app.add_option("--kld", kld, "The smallest mixed recipe that is predicted to lose no more")
            ->check(CLI::PositiveNumber)};
    for (CLI::Option* one : choices)
        for (CLI::Option* other : choices)
            if (one != other)
                one->excludes(other);
    addCalibration(app, calibration);
    addOutlierThreshold(app, outlierThreshold);
}

void addOutlierThreshold(CLI::App& app, std::optional<float>& threshold) {
    app.add_option("--outlier-threshold", threshold,
                   "Activations of this magnitude and more are outliers for LLM.int8() (default: "
                   "as the recipe says, or 6)")
        ->check(CLI::PositiveNumber);
}

void addCalibration(CLI::App& app, std::string& file) {
    app.add_option("--calibration", file,
                   "For methods that look at data: a text file, the workbench's folder of your "
                   "own chats or one of them, or an importance matrix of llama.cpp (default: the "
                   "calibration text that ships); levels that only round weigh by it when it is "
                   "given")
        ->check(CLI::ExistingPath);
}

void sayThin(const Calibration* calibration) {
    if (const std::string text = calibration ? thinness(*calibration) : ""; !text.empty())
        std::fprintf(stderr, "%s\n", text.c_str());
}

std::optional<Budget> RecipeArguments::budget() const {
    if (bytes)
        return Budget{Budget::Of::Bytes, static_cast<double>(*bytes)};
    if (bits)
        return Budget{Budget::Of::Bits, *bits};
    if (memory)
        return Budget{Budget::Of::Memory, static_cast<double>(*memory)};
    if (kld)
        return Budget{Budget::Of::Loss, *kld};
    return level == kMixedLevel ? std::optional(kMixedBudget) : std::nullopt;
}

namespace {

/// A level that is made without measuring; the refusal lists the one that is not, too.
const Level& knownLevel(const std::string& name) {
    std::string known;
    for (const Level& level : levels()) {
        if (name == level.name)
            return level;
        known += level.name + std::string(", ");
    }
    fail(ErrorKind::Usage, "There is no level \"{}\". Known levels: {}{}.", printable(name), known,
         kMixedLevel);
}

} // namespace

Recipe RecipeArguments::recipe(const std::shared_ptr<const Model>& model,
                               const std::string& device) const {
    if (const auto wanted = budget()) {
        PredictorOptions predictor;
        predictor.sensitivity.device = device;
        predictor.calibration = calibration;
        const MixedPlan plan = mixedPlan(model, *wanted, predictor, terminalProgress());
        std::fprintf(stderr, "%s\n",
                     fmt::format("Mixed: {}, {:.2f} bits per weight, predicted KLD {:.5f} ± {:.5f}",
                                 bytesText(plan.size.bytes), plan.size.bitsPerWeight,
                                 plan.prediction.kld, plan.prediction.error)
                         .c_str());
        return plan.recipe;
    }
    Recipe recipe;
    if (!level.empty()) {
        recipe = knownLevel(level).make(*model);
        if (!calibration.empty() && neededCalibration(*model, recipe) == Needs::Nothing)
            recipe = weightedRecipe(std::move(recipe));
    } else if (!file.empty()) {
        recipe = Recipe::fromJson(readTextFile(file, limits::kJsonBytes), file);
    }
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
                   "float or int8, for every product (default: as the level says; for a quantized "
                   "file that runs as it is, int8 in chat and bench, float where it is measured)");
    app.add_option("--kv", kv, "Format of keys and values: f32, f16, int8 or int4");
    app.add_option(
        "--gpu-layers", gpuLayers,
        "Run the first so many layers on the Vulkan device, the rest on the CPU (default: as "
        "many as fit there)");
    app.add_option("--cpu-experts", cpuExperts,
                   "Of a mixture of experts: keep the experts of the last so many layers on the "
                   "CPU and the rest of these layers on the Vulkan device (default: as few as "
                   "memory asks for)");
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
    options.cpuExperts = cpuExperts;
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
