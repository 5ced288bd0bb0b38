#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "core/calibrate/calibrate.h"
#include "core/evaluate/ladder.h"
#include "core/evaluate/measured.h"
#include "core/quant/export_fits.h"
#include "core/quant/folder_files.h"
#include "core/quant/folder_groups.h"
#include "core/quant/receipt.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <map>

namespace nibble::cli {

namespace {

struct Options {
    std::string base, out, container = "gguf";
    RecipeArguments recipe;
    std::string device = "auto";
    bool measure = false, json = false;
};

bool isFolder(const Options& options) {
    return options.container != "gguf";
}

/// A level as the kind of file wants it. Folders keep embedding and head in f16, whatever the
/// level says of them; a recipe of the user's own is taken as it is.
Recipe levelFor(const Options& options, Recipe recipe) {
    return isFolder(options) ? folderRecipe(std::move(recipe)) : recipe;
}

/// The largest level that a folder of that kind can hold and that keeps to the budget: engines load
/// such folders with one format throughout, so that nothing can be mixed.
Recipe largestWithin(const Model& model, const Options& options, const Budget& budget) {
    const Level* best = nullptr;
    uint64_t most = 0, least = UINT64_MAX;
    for (const Level* level : levelsFor(model, options.container)) {
        const Recipe recipe = withOneGroup(model, folderRecipe(level->make(model)),
                                           getExportTarget(options.container))
                                  .recipe;
        const RecipeSize size = recipeSize(model, recipe);
        least = std::min(least, size.bytes);
        const double taken = budget.of == Budget::Of::Bits ? size.bitsPerWeight
                             : budget.of == Budget::Of::Bytes
                                 ? static_cast<double>(size.bytes)
                                 : static_cast<double>(size.residentBytes);
        if (taken <= budget.value && size.bytes > most) {
            best = level;
            most = size.bytes;
        }
    }
    if (!best && least == UINT64_MAX)
        fail(ErrorKind::Usage, "No level fits a folder in {} form; give a --recipe.",
             options.container);
    if (!best)
        fail(ErrorKind::Usage,
             "No level is that small; the smallest that {} can hold takes {} bytes for this model.",
             getExportTarget(options.container).folder, least);
    return folderRecipe(best->make(model));
}

Recipe recipeOf(const std::shared_ptr<const Model>& model, const Options& options) {
    if (!options.recipe.given())
        fail(ErrorKind::Usage,
             "Give one of --level, --recipe, --budget, --bits, --memory and --kld.");
    const auto budget = options.recipe.budget();
    if (budget && isFolder(options)) {
        if (budget->of == Budget::Of::Loss)
            fail(ErrorKind::Usage,
                 "A folder in {} form has one format throughout; choose a --level or a --bits.",
                 options.container);
        return largestWithin(*model, options, *budget);
    }
    const Recipe recipe = options.recipe.recipe(model, options.device);
    return options.recipe.level.empty() ? recipe : levelFor(options, recipe);
}

/// With one size of groups where the kind of file wants that, and the user is told.
Recipe fitted(const Model& model, Recipe recipe, const Options& options) {
    if (!isFolder(options))
        return recipe;
    FolderGroups grouped;
    namingLevels(model, options.container, [&] {
        grouped = withOneGroup(model, recipe, getExportTarget(options.container));
    });
    if (!grouped.note.empty())
        fmt::print(stderr, "{}\n", grouped.note);
    return grouped.recipe;
}

/// What a base lost when it was quantized does not come back, and is lost on top of that again.
void sayQuantizedAlready(const Model& model, const Recipe& recipe) {
    for (const TensorKey key : model.keys()) {
        const TensorInfo& info = model.get(key);
        const Format* format = recipe.choose(model, key).format;
        // Floats that folders keep in another order are made when they are loaded, too.
        const bool isQuantized =
            info.packed ? !info.format()->isFloat() : info.type->blockValues > 1;
        if (!isQuantized || !format || format->isFloat() || format == info.format())
            continue;
        fmt::print(stderr,
                   "The base is quantized already ({}), and the losses of both levels add up; a "
                   "base in f16 or bf16 gives a better result.\n",
                   info.storedText());
        return;
    }
}

void requireSupported(const Options& options) {
    if (isFolder(options))
        getExportTarget(options.container);
}

/// Which levels each kind of file can hold, for a model whose rows all groups divide.
std::string levelsByContainer() {
    const auto model = makeSyntheticModel("100m");
    std::string text = "Levels that can be written (mixed: to gguf):\n";
    for (const std::string_view container : exportContainers()) {
        std::string names;
        for (const Level* level : levelsFor(*model, container))
            names += std::string(" ") + level->name;
        text += fmt::format("  {}:{}\n", container, names);
    }
    return text;
}

/// How many tensors get each format, by the name that the file has for it.
std::map<std::string, int> typeCounts(const Model& model, const Recipe& recipe, bool inGguf) {
    std::map<std::string, int> counts;
    for (const TensorKey key : model.keys()) {
        const Format* format = recipe.choose(model, key).format;
        const TensorInfo& info = model.get(key);
        const BlockType* type = format && inGguf ? blockTypeHolding(*format) : nullptr;
        ++counts[type          ? type->name
                 : format      ? format->name
                 : info.packed ? info.format()->name
                               : info.type->name];
    }
    return counts;
}

/// Input files are never modified, so the output must be another file.
void requireOtherFile(const Model& model, const std::string& out) {
    std::error_code absent;
    if (std::filesystem::equivalent(model.checkpoint->path, out, absent))
        fail(ErrorKind::Usage, "{} is the base itself; write to another file.", printable(out));
}

std::filesystem::path receiptOf(const Options& options) {
    const std::filesystem::path out = options.out;
    return isFolder(options) ? out / kFolderReceipt : receiptPath(out);
}

/// Of a file, or of the files that an export wrote into a folder.
uint64_t bytesOnDisk(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path))
        return std::filesystem::file_size(path);
    uint64_t bytes = 0;
    for (const std::string& name : exportedFiles(path))
        bytes += std::filesystem::file_size(path / name);
    return bytes;
}

/// For the receipt: what the ladder would say of the recipe.
ExportNotes measureRecipe(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                          const Options& options, const Progress& progress,
                          const Calibration* calibration) {
    EngineOptions engine;
    engine.device = options.device;
    engine.calibration = options.recipe.calibration;
    EvaluateOptions evaluate;
    evaluate.chunks = kLadderWindows;
    evaluate.spread = true;
    engine.context = evaluate.context;
    const auto variant = loadRunner(model, recipe, engine, progress);
    const auto base = loadRunner(model, {}, engine, progress);
    const QualityReport report =
        measureQuality(*variant, base.get(), shippedEvaluationText(), evaluate, progress);
    keepMeasured(*model, recipe, calibration, report);
    return {.calibration = {}, .measurements = measuredJson(report, nullptr)};
}

/// More damping than asked for: the result is sound, but nearer to plain rounding there.
void sayDamped(const ExportReport& report) {
    if (report.damped.empty())
        return;
    const auto most =
        std::max_element(report.damped.begin(), report.damped.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    fmt::print(stderr,
               "The calibration says too little of {} matri{}, so that more damping was needed (at "
               "most {:.3g}, for {}); calibrate with more text.\n",
               report.damped.size(), report.damped.size() == 1 ? "x" : "ces", most->second,
               most->first);
}

int run(const Options& options) {
    requireSupported(options);
    const auto model = openModelArgument(options.base);
    model->requireRunnable();
    requireOtherFile(*model, options.out);
    const Recipe recipe = fitted(*model, recipeOf(model, options), options);
    requireFits(*model, recipe, options.container); // before anything is calibrated
    sayQuantizedAlready(*model, recipe);
    const Progress progress = terminalProgress();
    const auto calibration = calibrationFor(model, recipe, progress, options.recipe.calibration);
    sayThin(calibration.get());
    const ExportNotes notes =
        options.measure ? measureRecipe(model, recipe, options, progress, calibration.get())
                        : keptNotes(*model, recipe, calibration.get());
    const ExportReport report =
        isFolder(options) ? exportFolder(*model, recipe, options.container, options.out, progress,
                                         calibration, notes)
                          : exportGguf(*model, recipe, options.out, progress, calibration, notes);
    sayDamped(report);

    const uint64_t bytes = bytesOnDisk(options.out);
    const auto types = typeCounts(*model, recipe, !isFolder(options));
    const RecipeSize size = recipeSize(*model, recipe, calibration.get());
    if (options.json) {
        printJson({{"path", options.out},
                   {"export", options.container},
                   {"receipt", receiptOf(options).string()},
                   {"level", levelName(recipe)},
                   {"bytes", bytes},
                   {"bits_per_weight", size.bitsPerWeight},
                   {"types", types}});
        return 0;
    }
    std::string list;
    for (const auto& [type, count] : types)
        list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, type);
    print(fmt::format("{}: {}, {:.2f} bits per weight, level {} (tensors: {})\n", options.out,
                      bytesText(bytes), size.bitsPerWeight, levelName(recipe), list));
    return 0;
}

} // namespace

Action defineQuantize(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->base, "BASE");
    app.add_option("-o,--output", options->out, "The file or folder to write")->required();
    options->recipe.addTo(app);
    app.add_option("--device", options->device, "Where recipes are measured")
        ->capture_default_str();
    app.add_option("--export", options->container,
                   "gguf, or a folder in the form of gptq, awq or compressed-tensors")
        ->capture_default_str();
    app.add_flag("--measure", options->measure,
                 "First measure the loss against the base, for the receipt (also taken from an "
                 "earlier evaluate or ladder of the same recipe)");
    app.footer(levelsByContainer);
    addJson(app, options->json);
    return [options] { return run(*options); };
}

} // namespace nibble::cli
