#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/reports.h"
#include "core/calibrate/calibrate.h"
#include "core/evaluate/measured.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, text, reference, probes;
    RecipeArguments recipe;
    RunArguments run;
    EvaluateOptions evaluate;
    bool json = false;
};

EvaluationText textOf(const std::string& file) {
    return file.empty() ? shippedEvaluationText() : evaluationTextFile(file);
}

/// The other model that the variant is compared with: the one named, or the same one as stored.
std::shared_ptr<const Model> referenceOf(const Options& options,
                                         const std::shared_ptr<const Model>& model) {
    if (!options.reference.empty())
        return openModelArgument(options.reference);
    return options.recipe.given() ? model : nullptr;
}

/// What the command measures: figures of a text, and of questions when asked.
struct Measured {
    QualityReport quality;
    std::optional<ProbeReport> probes;
};

Measured measure(const Options& options) {
    const auto model = openModelArgument(options.model);
    const Recipe recipe = options.recipe.recipe(model, options.run.device);
    const auto reference = referenceOf(options, model);
    if (reference && reference->config.vocabulary != model->config.vocabulary)
        fail(ErrorKind::BadInput,
             "{} has a vocabulary of {} and its reference {} one of {}; they cannot be compared.",
             printable(model->name), model->config.vocabulary, printable(reference->name),
             reference->config.vocabulary);
    const EvaluationText text = textOf(options.text);
    const std::vector<Probe> probes =
        options.probes.empty() ? std::vector<Probe>{} : readProbes(options.probes);
    const Progress progress = terminalProgress();
    EngineOptions engine = options.run.options(options.evaluate.context);
    engine.calibration = options.recipe.calibration;
    const auto runner = loadRunner(model, recipe, engine, progress);
    std::unique_ptr<Runner> base;
    if (reference) {
        engine.activations = ActivationFormat::Float; // the base is the reference: nothing rounded
        engine.kv.reset();
        base = loadRunner(reference, {}, engine, progress);
    }
    QualityReport report = measureQuality(*runner, base.get(), text, options.evaluate, progress);
    const auto calibration = calibrationFor(model, recipe, progress, options.recipe.calibration);
    const RecipeSize size = recipeSize(*model, recipe, calibration.get());
    report.bytes = size.bytes;
    report.bitsPerWeight = size.bitsPerWeight;
    report.level = levelName(recipe);
    report.device = placementText(runner->options());
    Measured measured{std::move(report), {}};
    if (!probes.empty())
        measured.probes = measureProbes(*runner, probes, progress);
    // What a receipt says is of the recipe as it is, against the base that it is made from.
    if (reference == model && options.run.activations.empty() && options.run.kv.empty())
        keepMeasured(*model, recipe, calibration.get(), measured.quality,
                     measured.probes ? &*measured.probes : nullptr);
    return measured;
}

Json layersOf(const QualityReport& report) {
    Json layers = Json::array();
    for (const LayerError& layer : report.layers)
        layers.push_back({{"layer", layer.layer},
                          {"relative_error", layer.relativeError},
                          {"sqnr", layer.sqnr},
                          {"cosine", layer.cosine}});
    return layers;
}

Json describe(const Measured& measured) {
    const QualityReport& r = measured.quality;
    const auto& probes = measured.probes;
    const auto compared = [&](double value) {
        return r.hasReference ? Json(value) : Json(nullptr);
    };
    return {{"ppl", r.ppl},
            {"ppl_error", r.pplError},
            {"kld_mean", compared(r.kldMean)},
            {"kld_error", compared(r.kldError)},
            {"kld_median", compared(r.kldMedian)},
            {"kld_p99", compared(r.kldP99)},
            {"kld_max", compared(r.kldMax)},
            {"same_top", compared(r.sameTop)},
            {"same_top_error", compared(r.sameTopError)},
            {"base_ppl", compared(r.basePpl)},
            {"ppl_ratio", compared(r.pplRatio)},
            {"ppl_ratio_error", compared(r.pplRatioError)},
            {"tokens", r.tokens},
            {"windows", r.windows},
            {"context", r.context},
            {"bytes", r.bytes},
            {"bits_per_weight", r.bitsPerWeight},
            {"accuracy", accuracyOf(probes)},
            {"accuracy_error", accuracyErrorOf(probes)},
            {"categories", categoriesOf(probes)},
            {"layers", layersOf(r)},
            {"level", r.level},
            {"device", r.device},
            {"text", r.text},
            {"text_hash", r.textHash},
            {"seconds", r.seconds}};
}

void printReport(const Measured& measured) {
    const QualityReport& r = measured.quality;
    std::string out = fmt::format("{} on {}, {} · {} tokens in {} windows of {}\n\n", r.level,
                                  r.device, r.text, r.tokens, r.windows, r.context);
    out += fmt::format("perplexity       {:.4f} ± {:.4f}\n", r.ppl, r.pplError);
    if (r.hasReference) {
        out += fmt::format("base perplexity  {:.4f}   ratio {:.5f} ± {:.5f}\n", r.basePpl,
                           r.pplRatio, r.pplRatioError);
        out += fmt::format("KLD              {:.6f} ± {:.6f}   99 % {:.4f}, largest {:.4f}\n",
                           r.kldMean, r.kldError, r.kldP99, r.kldMax);
        out += fmt::format("same top token   {:.2f} ± {:.2f} %\n", 100 * r.sameTop,
                           100 * r.sameTopError);
    }
    out += fmt::format("size             {}, {:.2f} bits per weight\n", bytesText(r.bytes),
                       r.bitsPerWeight);
    if (const auto& probes = measured.probes) {
        out += fmt::format("right answers    {:.1f} ± {:.1f} % of {}\n", 100 * probes->accuracy,
                           100 * probes->error, probes->count);
        for (const ProbeReport::Category& category : probes->categories)
            out += fmt::format("  {:<24} {} of {}\n", category.category, category.correct,
                               category.count);
    }
    if (!r.layers.empty()) {
        Table table({{"layer", Table::Align::Right},
                     {"relative error", Table::Align::Right},
                     {"SQNR dB", Table::Align::Right},
                     {"cosine", Table::Align::Right}});
        for (const LayerError& layer : r.layers)
            table.add({std::to_string(layer.layer), fmt::format("{:.5f}", layer.relativeError),
                       numberText(layer.sqnr, 1), numberText(layer.cosine, 6)});
        out += "\n" + table.text();
    }
    print(out);
}

int run(const Options& options) {
    if (options.evaluate.layers && options.reference.empty() && !options.recipe.given())
        fail(ErrorKind::Usage,
             "--layers compares with a base; give --level, --recipe or --reference as well.");
    const Measured measured = measure(options);
    if (options.json)
        printJson(describe(measured));
    else
        printReport(measured);
    return 0;
}

} // namespace

Action defineEvaluate(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    options->recipe.addTo(app);
    app.add_option("--text", options->text, "A text file (default: the text that ships)");
    app.add_option("--reference", options->reference,
                   "The base to compare with (default with a level: MODEL as it is stored)");
    app.add_option("--context", options->evaluate.context, "Tokens of a window")
        ->check(CLI::Range(2, 1 << 24))
        ->capture_default_str();
    app.add_option("--chunks", options->evaluate.chunks,
                   "Windows to score, from the beginning (default: all)")
        ->check(CLI::Range(0, 1 << 24));
    app.add_flag("--layers", options->evaluate.layers, "Also the error after every layer");
    app.add_option("--probes", options->probes, "Questions to score, one JSON object a line");
    options->run.addTo(app);
    addJson(app, options->json);
    app.footer("The base always runs with float activations. What was not measured is null.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
