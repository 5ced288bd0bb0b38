#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "app/cli/plan_text.h"
#include "core/model/names.h"
#include "core/tensor/statistics.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, pattern, level;
    bool weights = false, plan = false, metadata = false, json = false;
    RunArguments run;
    int32_t context = 0;
};

std::optional<LoadPlan> planOf(const std::shared_ptr<const Model>& model, const Options& options) {
    if (!options.plan)
        return std::nullopt;
    RecipeArguments recipe;
    recipe.level = options.level;
    return planLoad(*model, recipe.recipe(model, options.run.device),
                    options.run.options(contextFor(*model, options.context)));
}

const char* containerName(Checkpoint::Container container) {
    switch (container) {
    case Checkpoint::Container::Gguf:
        return "gguf";
    case Checkpoint::Container::Safetensors:
        return "safetensors";
    case Checkpoint::Container::Memory:
        return "memory";
    }
    return "";
}

std::string shapeText(const TensorInfo& info) {
    return fmt::format("{}", fmt::join(info.dims, " × "));
}

/// Statistics of one stored tensor; nothing for types whose values cannot be read.
std::optional<TensorStatistics> statisticsOf(const TensorInfo& info, const Progress& progress) {
    if (!info.format())
        return std::nullopt;
    return computeStatistics(storedRows(info), progress);
}

Json describe(const ModelConfig& c) {
    return {{"layers", c.layers},
            {"width", c.width},
            {"feed_forward", c.feedForward},
            {"heads", c.heads},
            {"kv_heads", c.kvHeads},
            {"head_size", c.headSize},
            {"vocabulary", c.vocabulary},
            {"context_length", c.contextLength},
            {"norm_epsilon", c.normEpsilon},
            {"rope_base", c.rope.base},
            {"rope_dimensions", c.ropeDimensions},
            {"rope_scale", c.rope.scale},
            {"tied_embedding", c.tiedEmbedding}};
}

Json describe(const Tokenizer& tokenizer) {
    const Tokenizer::Info& info = tokenizer.info();
    return {{"model", info.model},      {"pre_tokenizer", info.preTokenizer},
            {"size", info.size},        {"bos", info.bos},
            {"eos", info.eos},          {"add_bos", info.addBos},
            {"warnings", info.warnings}};
}

Json describe(const TensorStatistics& s) {
    const auto lines = [](const std::vector<OutlierLine>& list) {
        Json out = Json::array();
        for (const OutlierLine& line : list)
            out.push_back({{"index", line.index},
                           {"abs_max", line.absMax},
                           {"rms", line.rms},
                           {"sigmas", line.sigmas}});
        return out;
    };
    return {{"count", s.count},
            {"nan", s.nanCount},
            {"infinite", s.infCount},
            {"min", s.min},
            {"max", s.max},
            {"abs_max", s.absMax},
            {"mean", s.mean},
            {"standard_deviation", s.standardDeviation},
            {"skewness", s.skewness},
            {"excess_kurtosis", s.excessKurtosis},
            {"outliers", s.outlierCount},
            {"outlier_rows", lines(s.outlierRows)},
            {"outlier_columns", lines(s.outlierCols)}};
}

/// "q", "q, k, v" of a fused tensor, "gate of 8 experts" or "gate, up of 4 experts" of a stack.
std::string rolesText(std::span<const TensorKey> keys) {
    std::string text;
    size_t roles = 0;
    for (size_t i = 0; i < keys.size(); ++i)
        if (i == 0 || keys[i].role != keys[i - 1].role) {
            text += (i == 0 ? "" : ", ") + std::string(shortName(keys[i].role));
            ++roles;
        }
    if (keys.front().expert < 0)
        return text;
    const size_t experts = keys.size() / roles;
    return fmt::format("{} of {} expert{}", text, experts, experts == 1 ? "" : "s");
}

Json describeMetadata(const Metadata& metadata, const std::string& pattern) {
    Json rows = Json::array();
    for (const MetadataRow& row : metadataRows(metadata, pattern))
        rows.push_back({{"key", row.key}, {"type", row.type}, {"value", row.value}});
    return rows;
}

Json describeAll(const Model& model, bool weights, const Progress& progress) {
    const Checkpoint& file = *model.checkpoint;
    Json metadata = Json::object(), tensors = Json::array();
    for (const auto& [key, value] : file.metadata.entries)
        metadata[printable(key, 200)] = nibble::describe(value);
    for (const TensorInfo& info : file.tensors) {
        progress.check();
        const auto keys = model.keysOf(info.name);
        Json tensor{{"name", info.name},
                    {"shape", info.dims},
                    {"type", info.type->name},
                    {"runs_as", info.format() ? Json(info.format()->name) : Json(nullptr)},
                    {"bytes", info.storedBytes()},
                    {"role", keys.empty() ? Json(nullptr) : Json(rolesText(keys))},
                    {"layer", !keys.empty() && keys.front().layer >= 0 ? Json(keys.front().layer)
                                                                       : Json(nullptr)}};
        if (weights) {
            const auto statistics = statisticsOf(info, progress);
            tensor["statistics"] = statistics ? describe(*statistics) : Json(nullptr);
        }
        tensors.push_back(std::move(tensor));
    }
    const bool runs = model.unsupported.empty();
    const std::string note = file.conversionNote();
    return {{"name", model.name},
            {"path", file.path.string()},
            {"container", containerName(file.container)},
            {"architecture", model.config.architecture},
            {"supported", runs},
            {"problem", runs ? Json(nullptr) : Json(model.unsupported)},
            {"note", note.empty() ? Json(nullptr) : Json(note)},
            {"parameters", model.parameters()},
            {"file_bytes", file.fileBytes},
            {"config", runs ? describe(model.config) : Json(nullptr)},
            {"tokenizer", model.tokenizer ? describe(*model.tokenizer) : Json(nullptr)},
            {"chat_template", !model.chatTemplate.empty()},
            {"diagnosis", cli::describe(diagnose(model))},
            {"metadata", metadata},
            {"tensors", tensors}};
}

std::string heading(const Model& model) {
    const ModelConfig& c = model.config;
    std::string out =
        fmt::format("{} · {} · {} · {:.4g} million parameters\n", printable(model.name),
                    printable(c.architecture), bytesText(model.checkpoint->fileBytes),
                    static_cast<double>(model.parameters()) / 1e6);
    if (const std::string note = model.checkpoint->conversionNote(); !note.empty())
        out += note + "\n";
    const std::string known = diagnosisText(diagnose(model));
    if (!model.unsupported.empty())
        return out + model.unsupported + "\n" + known;
    out += fmt::format(
        "{} layers, width {}, feed-forward {}, {} heads ({} for keys and values) of {}, "
        "vocabulary {}, context {}{}\n",
        c.layers, c.width, c.feedForward, c.heads, c.kvHeads, c.headSize, c.vocabulary,
        c.contextLength, c.tiedEmbedding ? ", tied head" : "");
    return out + known;
}

std::string metadataTable(const Metadata& metadata, const std::string& pattern) {
    using enum Table::Align;
    Table table({{"key", Left}, {"type", Left}, {"value", Left}});
    const auto rows = metadataRows(metadata, pattern);
    for (const MetadataRow& row : rows)
        table.add({row.key, row.type, row.value});
    return fmt::format("{}{} of {} entries\n", rows.empty() ? "" : table.text(), rows.size(),
                       metadata.entries.size());
}

void printTable(const Model& model, bool weights, const Progress& progress) {
    using enum Table::Align;
    std::vector<std::pair<std::string, Table::Align>> columns{
        {"tensor", Left}, {"role", Left}, {"shape", Right}, {"type", Left}, {"size", Right}};
    if (weights)
        for (const char* name : {"mean", "σ", "largest", "kurtosis", "beyond 6 σ", "NaN, inf"})
            columns.emplace_back(name, Right);
    Table table(columns);
    for (const TensorInfo& info : model.checkpoint->tensors) {
        progress.check();
        const auto keys = model.keysOf(info.name);
        const std::string role = !keys.empty()        ? rolesText(keys)
                                 : info.owner.empty() ? "not used"
                                                      : "beside its weight";
        std::vector<std::string> row{printable(info.name), role, shapeText(info), info.storedText(),
                                     bytesText(info.storedBytes())};
        if (weights) {
            if (const auto s = statisticsOf(info, progress)) {
                row.insert(
                    row.end(),
                    {fmt::format("{:.2g}", s->mean), fmt::format("{:.3g}", s->standardDeviation),
                     fmt::format("{:.3g}", s->absMax), fmt::format("{:.1f}", s->excessKurtosis),
                     std::to_string(s->outlierCount), std::to_string(s->nanCount + s->infCount)});
            } else {
                row.emplace_back("not readable yet");
            }
        }
        table.add(std::move(row));
    }
    print(heading(model) + "\n" + table.text());
}

int run(const Options& options) {
    const auto model = openForInspection(modelPath(options.model));
    const Progress progress = terminalProgress();
    const auto plan = planOf(model, options);
    if (options.json) {
        Json all = describeAll(*model, options.weights, progress);
        if (options.metadata)
            all["metadata_entries"] =
                describeMetadata(model->checkpoint->metadata, options.pattern);
        if (plan)
            all["plan"] = cli::describe(*plan);
        printJson(all);
        return 0;
    }
    if (!options.metadata && !plan) {
        printTable(*model, options.weights, progress);
        return 0;
    }
    print(heading(*model));
    if (options.metadata)
        print("\n" + metadataTable(model->checkpoint->metadata, options.pattern));
    if (plan)
        print("\n" + planTable(*plan));
    return 0;
}

} // namespace

Action defineInspect(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_flag("--weights", options->weights, "Also statistics of every tensor's values");
    auto* metadata = app.add_option("--metadata", options->pattern,
                                    "The metadata instead of the tensors: keys, types and values "
                                    "that hold every word of a pattern, or all")
                         ->expected(0, 1);
    app.add_flag("--plan", options->plan,
                 "What would lie on which device, and an estimate of the tokens per second, before "
                 "anything is loaded");
    app.add_option("--level", options->level, "With --plan: of this level, not of the file");
    options->run.addTo(app);
    addContext(app, options->context);
    addJson(app, options->json);
    return [options, metadata] {
        options->metadata = metadata->count() > 0;
        return run(*options);
    };
}

} // namespace nibble::cli
