#include "core/serve/bench.h"

#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "app/cli/plan_text.h"
#include "core/calibrate/calibrate.h"
#include "core/model/names.h"
#include "core/runtime/kernel_bench.h"

#include <fmt/format.h>
#include <map>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, synthetic, out;
    RecipeArguments recipe;
    RunArguments run;
    BenchOptions bench{.batches = {1, 2, 4, 8}};
    int32_t context = 0;
    bool json = false, kernels = false, everyTiling = false;
    KernelBenchOptions kernelBench;
};

std::optional<double> gigabytes(const std::optional<double>& bytes) {
    return bytes ? std::optional(*bytes / 1e9) : std::nullopt;
}

Json describe(const BenchReport& r, const Model& model, const Recipe& recipe,
              const Options& options) {
    Json batches = Json::array(), paths = Json::array();
    for (const BatchSpeed& batch : r.batches)
        batches.push_back({{"sequences", batch.sequences}, {"generate_tps", batch.generateTps}});
    for (const PathReport& path : r.paths)
        paths.push_back({{"tensor", tensorName(path.key)},
                         {"stored", path.stored},
                         {"format", path.format},
                         {"backend", path.backend},
                         {"path", path.path}});
    Json steps = Json::array();
    for (const StepTime& step : r.steps)
        steps.push_back(
            {{"step", step.step}, {"count", step.count}, {"microseconds", step.microseconds}});
    return {{"model", model.name},
            {"device", r.placement},
            {"level", levelName(recipe)},
            {"prompt_tokens", options.bench.prompt},
            {"generate_tokens", options.bench.generate},
            {"prompt_tps", r.promptTps},
            {"generate_tps", r.generateTps},
            {"read_bandwidth_gbs", orNull(gigabytes(r.readBandwidth))},
            {"generate_bandwidth_fraction", orNull(r.bandwidthFraction())},
            {"bytes_per_token", r.bytesPerToken},
            {"barriers_per_layer", r.barriersPerLayer},
            {"steps", steps},
            {"milliseconds_between_tokens", orNull(r.millisecondsBetweenTokens)},
            {"peak_bytes", r.peakBytes},
            {"memory",
             {{"weights", r.memory.weights}, {"kv", r.memory.kv}, {"scratch", r.memory.scratch}}},
            {"batches", batches},
            {"load_seconds", r.loadSeconds},
            {"paths", paths}};
}

/// How many tensors took each path, in few lines.
std::string pathLines(const std::vector<PathReport>& paths) {
    std::map<std::string, int> counts;
    for (const PathReport& path : paths)
        ++counts[path.backend + ": " + path.path];
    std::string out;
    for (const auto& [path, count] : counts)
        out += fmt::format("  {:4} × {}\n", count, path);
    return out;
}

void printReport(const BenchReport& r, const Model& model, const Recipe& recipe,
                 const Options& options) {
    std::string out = fmt::format("{} · {} on {}\n\n", model.name, levelName(recipe), r.placement);
    out += fmt::format("prompt      {:10.1f} tokens/s  ({} tokens)\n", r.promptTps,
                       options.bench.prompt);
    out += fmt::format("generate    {:10.1f} tokens/s  ({} tokens)\n", r.generateTps,
                       options.bench.generate);
    for (const BatchSpeed& batch : r.batches)
        out += fmt::format("{:3} at once {:10.1f} tokens/s\n", batch.sequences, batch.generateTps);
    out += fmt::format("reads       {:>10} a token", bytesText(r.bytesPerToken));
    const auto fraction = r.bandwidthFraction();
    if (fraction && *fraction > 1)
        out +=
            fmt::format(", faster than the {:.1f} GB/s that memory gives: they stay in the cache",
                        *gigabytes(r.readBandwidth));
    else if (fraction)
        out += fmt::format(", {:.0f} % of the {:.1f} GB/s that memory gives", 100 * *fraction,
                           *gigabytes(r.readBandwidth));
    out += fmt::format("\nbarriers    {:10.1f} a layer\n", r.barriersPerLayer);
    out += fmt::format("memory      {:>10} weights, {} cache, {} scratch; peak {}\n",
                       bytesText(r.memory.weights), bytesText(r.memory.kv),
                       bytesText(r.memory.scratch), bytesText(r.peakBytes));
    if (!r.steps.empty()) {
        double all = 0;
        for (const StepTime& step : r.steps)
            all += step.microseconds;
        out += fmt::format("\nA token on the device's clock: {:.3f} ms", all * 1e-3);
        if (r.millisecondsBetweenTokens)
            out += fmt::format("; {:.3f} ms between tokens", *r.millisecondsBetweenTokens);
        out += "\n";
        for (const StepTime& step : r.steps)
            out += fmt::format("  {:24} {:4} × {:8.1f} us {:6.1f} %\n", step.step, step.count,
                               step.microseconds / step.count, 100 * step.microseconds / all);
    }
    print(out + "\n" + pathLines(r.paths));
}

int benchKernelsOf(const Options& options) {
    const auto device = openDevice(options.run.device);
    KernelBenchOptions bench = options.kernelBench;
    if (options.everyTiling)
        bench.tilings = KernelBenchOptions::Tilings::Every;
    const KernelReport r = benchKernels(*device, bench, terminalProgress());
    if (options.json) {
        Json kernels = Json::array();
        for (const KernelTime& k : r.kernels)
            kernels.push_back({{"format", k.format},
                               {"rows", k.rows},
                               {"cols", k.cols},
                               {"activation_rows", k.activationRows},
                               {"kernel", k.kernel},
                               {"microseconds", k.microseconds},
                               {"gbs", k.bytes / k.microseconds * 1e-3},
                               {"gops", k.operations / k.microseconds * 1e-3}});
        printJson({{"device", deviceText(r.device)},
                   {"read_bandwidth_gbs", r.readBandwidth / 1e9},
                   {"dot_gops", r.dotRate / 1e9},
                   {"barrier_microseconds", r.barrierMicroseconds},
                   {"kernels", kernels}});
        return 0;
    }
    std::string out =
        fmt::format("{}\n\nreads memory at {:.1f} GB/s, multiplies 8-bit integers at {:.1f} GOP/s",
                    deviceText(r.device), r.readBandwidth / 1e9, r.dotRate / 1e9);
    if (r.barrierMicroseconds > 0)
        out += fmt::format(", an empty step takes {:.1f} us", r.barrierMicroseconds);
    out += "\n\n";
    out += fmt::format("{:14} {:>13} {:>5}  {:18} {:>10} {:>9} {:>6} {:>10} {:>6}\n", "format",
                       "matrix", "rows", "kernel", "us", "GB/s", "", "GOP/s", "");
    for (const KernelTime& k : r.kernels) {
        const double read = k.bytes / k.microseconds * 1e6,
                     rate = k.operations / k.microseconds * 1e6;
        out += fmt::format(
            "{:14} {:>13} {:5}  {:18} {:10.1f} {:9.1f} {:4.0f} % {:10.1f} {:4.0f} %\n", k.format,
            fmt::format("{} × {}", k.rows, k.cols), k.activationRows, k.kernel, k.microseconds,
            read / 1e9, 100 * read / r.readBandwidth, rate / 1e9, 100 * rate / r.dotRate);
    }
    print(out);
    return 0;
}

int run(const Options& options) {
    if (options.kernels)
        return benchKernelsOf(options);
    if (options.model.empty() == options.synthetic.empty())
        fail(ErrorKind::Usage, "Give either MODEL or --synthetic SHAPE.");
    const auto model = options.synthetic.empty() ? openModelArgument(options.model)
                                                 : makeSyntheticModel(options.synthetic);
    const Recipe recipe = options.recipe.recipe(model, options.run.device);
    const Progress progress = terminalProgress();
    if (!options.out.empty())
        exportGguf(*model, recipe, options.out, progress,
                   calibrationFor(model, recipe, progress, options.recipe.calibration));
    EngineOptions engine = options.run.options(contextFor(*model, options.context));
    engine.quickBase = true;
    engine.calibration = options.recipe.calibration;
    if (!options.json)
        sayPlan(*model, recipe, engine);
    const BenchReport report = runBench(model, recipe, engine, options.bench, progress);
    if (options.json)
        printJson(describe(report, *model, recipe, options));
    else
        printReport(report, *model, recipe, options);
    return 0;
}

} // namespace

Action defineBench(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("MODEL", options->model, "A GGUF file, a safetensors folder, or \"sample\"");
    app.add_option("--synthetic", options->synthetic,
                   "A random llama model of the shape 100m, 1b or 7b instead");
    options->recipe.addTo(app);
    app.add_option("--prompt", options->bench.prompt, "Tokens of the prompt")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--generate", options->bench.generate, "Tokens to generate")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--batch", options->bench.batches, "Answers side by side, separated by commas")
        ->delimiter(',')
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app.add_flag("--kernels", options->kernels,
                 "Time the product kernels of the device alone, without a model");
    app.add_option("--formats", options->kernelBench.formats,
                   "With --kernels: formats of the matrix, separated by commas")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--rows", options->kernelBench.rows,
                   "With --kernels: activation rows (1, 2, 4, 8 or a multiple of 16)")
        ->delimiter(',')
        ->check(CLI::IsMember({1, 2, 4, 8, 16, 32, 64, 128, 256, 512}))
        ->capture_default_str();
    app.add_flag("--every-tiling", options->everyTiling,
                 "With --kernels: not only the tiling that the device is given");
    app.add_option("-o,--output", options->out, "Also write the model as a GGUF file");
    options->run.addTo(app);
    addContext(app, options->context);
    addJson(app, options->json);
    app.footer("peak_bytes: a GPU's own memory, else the largest resident size of the process.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
