#include "core/evaluate/ladder.h"

#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/reports.h"

#include <algorithm>
#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string base, text, probes, calibration, against;
    LadderOptions ladder;
    int32_t context = 0;
    bool json = false, markdown = false;
};

std::optional<double> measured(const LadderRow& row, double value) {
    return row.measured ? std::optional(value) : std::nullopt;
}

bool sized(const LadderRow& row) {
    return row.size.bytes > 0;
}

std::optional<double> timed(double tps) {
    return tps > 0 ? std::optional(tps) : std::nullopt;
}

Json describe(const LadderRow& row, const LadderRow* against) {
    const QualityReport& q = row.quality;
    const auto difference = against ? pairedDifference(q, against->quality) : std::nullopt;
    return {{"level", row.level},
            {"bytes", sized(row) ? Json(row.size.bytes) : Json(nullptr)},
            {"bits_per_weight", sized(row) ? Json(row.size.bitsPerWeight) : Json(nullptr)},
            {"kld_mean", orNull(measured(row, q.kldMean))},
            {"kld_error", orNull(measured(row, q.kldError))},
            {"kld_difference", difference ? Json(difference->kld) : Json(nullptr)},
            {"kld_difference_error", difference ? Json(difference->error) : Json(nullptr)},
            {"ppl", orNull(measured(row, q.ppl))},
            {"ppl_error", orNull(measured(row, q.pplError))},
            {"same_top", orNull(measured(row, q.sameTop))},
            {"accuracy", accuracyOf(row.probes)},
            {"accuracy_error", accuracyErrorOf(row.probes)},
            {"categories", categoriesOf(row.probes)},
            {"generate_tps", orNull(timed(row.generateTps))},
            {"prompt_tps", orNull(timed(row.promptTps))},
            {"make_seconds", row.measured ? Json(row.makeSeconds) : Json(nullptr)},
            {"memory_bytes", sized(row) ? Json(row.memory.total()) : Json(nullptr)},
            {"fits", row.fits},
            {"problem", row.problem.empty() ? Json(nullptr) : Json(row.problem)}};
}

/// "-0.0012 ± 0.0001", in brackets where it may be chance.
std::string differenceText(const LadderRow& row, const LadderRow& against) {
    const auto difference = pairedDifference(row.quality, against.quality);
    if (!difference || &row == &against)
        return {};
    const std::string text = fmt::format("{:+.6f} ± {:.6f}", difference->kld, difference->error);
    return difference->certain() ? text : "(" + text + ")";
}

void printRows(const std::vector<LadderRow>& rows, const LadderRow* against, bool asked,
               bool markdown) {
    std::vector<std::pair<std::string, Table::Align>> columns = {{"level", Table::Align::Left}};
    for (const char* name : {"size", "bits/weight", "KLD", "±", "perplexity", "same top %"})
        columns.emplace_back(name, Table::Align::Right);
    if (against)
        columns.emplace_back("KLD against " + against->level, Table::Align::Right);
    if (asked)
        columns.emplace_back("right answers %", Table::Align::Right);
    columns.emplace_back("made in s", Table::Align::Right);
    columns.emplace_back("tokens/s", Table::Align::Right);
    columns.emplace_back("fits", Table::Align::Left);
    Table table(std::move(columns));
    std::string problems;
    for (const LadderRow& row : rows) {
        const QualityReport& q = row.quality;
        const bool made = sized(row);
        std::vector<std::string> cells = {row.level,
                                          made ? bytesText(row.size.bytes) : "",
                                          made ? numberText(row.size.bitsPerWeight) : "",
                                          numberText(measured(row, q.kldMean), 6),
                                          row.measured ? numberText(q.kldError, 6) : "",
                                          numberText(measured(row, q.ppl), 4),
                                          numberText(measured(row, 100 * q.sameTop), 2)};
        if (against)
            cells.push_back(differenceText(row, *against));
        if (asked)
            cells.push_back(row.probes ? fmt::format("{:.1f} ± {:.1f}", 100 * row.probes->accuracy,
                                                     100 * row.probes->error)
                                       : numberText(std::nullopt));
        cells.push_back(row.measured ? numberText(row.makeSeconds, 1) : "");
        cells.push_back(numberText(timed(row.generateTps), 1));
        cells.emplace_back(!made ? "" : row.fits ? "yes" : "no");
        table.add(std::move(cells));
        if (!row.problem.empty())
            problems += fmt::format("{}: {}\n", row.level, row.problem);
    }
    print((markdown ? table.markdown() : table.text()) + (problems.empty() ? "" : "\n" + problems));
}

/// Right answers by category and level.
void printCategories(const std::vector<LadderRow>& rows) {
    std::vector<std::pair<std::string, Table::Align>> columns = {
        {"right answers", Table::Align::Left}, {"of", Table::Align::Right}};
    const ProbeReport* first = nullptr;
    for (const LadderRow& row : rows) {
        if (!row.probes)
            continue;
        columns.emplace_back(row.level, Table::Align::Right);
        first = first ? first : &*row.probes;
    }
    if (!first)
        return;
    Table table(std::move(columns));
    for (size_t i = 0; i < first->categories.size(); ++i) {
        std::vector<std::string> cells = {first->categories[i].category,
                                          std::to_string(first->categories[i].count)};
        for (const LadderRow& row : rows)
            if (row.probes)
                cells.push_back(std::to_string(row.probes->categories[i].correct));
        table.add(std::move(cells));
    }
    print("\n" + table.text());
}

int run(Options& options) {
    const auto model = openModelArgument(options.base);
    model->requireRunnable();
    const EvaluationText text =
        options.text.empty() ? shippedEvaluationText() : evaluationTextFile(options.text);
    if (!options.probes.empty())
        options.ladder.probes = readProbes(options.probes);
    options.ladder.calibration = options.calibration;
    options.ladder.context = contextFor(*model, options.context);
    if (!options.against.empty()) {
        ladderTitle(options.against); // an unknown one is said before anything is measured
        auto& levels = options.ladder.levels;
        if (!levels.empty() && std::ranges::find(levels, options.against) == levels.end())
            levels.push_back(options.against);
    }
    const DeviceInfo device = openDevice(options.ladder.device)->info();
    const auto rows = measureLadder(model, text, options.ladder, terminalProgress());
    const auto found = std::ranges::find(rows, options.against, &LadderRow::level);
    const LadderRow* against = found == rows.end() ? nullptr : &*found;
    if (options.json) {
        Json list = Json::array();
        for (const LadderRow& row : rows)
            list.push_back(describe(row, against));
        printJson({{"levels", list},
                   {"model", model->name},
                   {"device", deviceText(device)},
                   {"text", text.label}});
        return 0;
    }
    print(fmt::format("{} on {}, measured on {}\n\n", model->name, deviceText(device), text.label));
    printRows(rows, against, !options.probes.empty(), options.markdown);
    printCategories(rows);
    return 0;
}

} // namespace

Action defineLadder(CLI::App& app) {
    auto options = std::make_shared<Options>();
    options->ladder.evaluate.chunks = kLadderWindows;
    addModel(app, options->base, "BASE");
    app.add_option("--levels", options->ladder.levels, "Names, separated by commas (default: all)")
        ->delimiter(',');
    app.add_option("--against", options->against,
                   "Also each level's loss less this one's, on the same tokens");
    app.add_option("--text", options->text, "A text file (default: the text that ships)");
    app.add_option("--chunks", options->ladder.evaluate.chunks,
                   "Windows to score, spread over the text; 0 takes all")
        ->check(CLI::Range(0, 1 << 24))
        ->capture_default_str();
    app.add_option("--probes", options->probes,
                   "Questions that every level answers, one JSON object a line");
    addCalibration(app, options->calibration);
    addOutlierThreshold(app, options->ladder.outlierThreshold);
    app.add_option("--device", options->ladder.device, "auto, cpu, cpu:scalar, vulkan or vulkan:N")
        ->capture_default_str();
    addContext(app, options->context);
    app.add_flag("--markdown", options->markdown, "Print the table in Markdown");
    app.add_option("--bits", options->ladder.mixed.value,
                   "Bits per weight that the level \"mixed\" may take")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    addJson(app, options->json);
    app.footer("Sizes and \"fits\" are for --context. Every level runs with its own activations. "
               "Differences in brackets are within two standard errors: they may be chance.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
