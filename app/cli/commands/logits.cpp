#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/npy.h"
#include "app/cli/output.h"

#include <algorithm>
#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, out;
    std::vector<TokenId> tokens;
    RecipeArguments recipe;
    RunArguments run;
    int32_t context = 0;
    bool json = false;
};

std::vector<float> compute(Runner& runner, const std::vector<TokenId>& tokens,
                           const Progress& progress) {
    Session session = runner.newSession();
    std::vector<float> all;
    const auto step = static_cast<size_t>(runner.options().maxRows);
    for (size_t at = 0; at < tokens.size(); at += step) {
        progress.check();
        const auto part = std::span(tokens).subspan(at, std::min(step, tokens.size() - at));
        const auto logits = runner.append(session, part, true);
        all.insert(all.end(), logits.begin(), logits.end());
        progress.report(static_cast<double>(at), static_cast<double>(tokens.size()), "Computing");
    }
    return all;
}

int run(const Options& options) {
    const auto model = openModelArgument(options.model);
    model->requireRunnable();
    requireTokens(options.tokens, model->config.vocabulary);
    const auto count = static_cast<int32_t>(options.tokens.size());
    EngineOptions engine = options.run.options(options.context > 0 ? options.context : count);
    engine.activations = engine.activations.value_or(ActivationFormat::Float);
    engine.kv = engine.kv.value_or(KvFormat::F32);
    const Progress progress = terminalProgress();
    const auto runner =
        loadRunner(model, options.recipe.recipe(model, options.run.device), engine, progress);
    const auto logits = compute(*runner, options.tokens, progress);
    writeNpy(options.out, count, model->config.vocabulary, logits);
    const std::string device = placementText(runner->options());
    if (options.json)
        printJson({{"path", options.out},
                   {"tokens", count},
                   {"vocabulary", model->config.vocabulary},
                   {"device", device}});
    else
        print(fmt::format("{}: {} × {} logits, computed on {}\n", options.out, count,
                          model->config.vocabulary, device));
    return 0;
}

} // namespace

Action defineLogits(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_option("--tokens", options->tokens, "Ids, separated by commas")
        ->delimiter(',')
        ->required();
    app.add_option("-o,--output", options->out, "The .npy file to write")->required();
    options->recipe.addTo(app);
    options->run.addTo(app);
    addContext(app, options->context);
    addJson(app, options->json);
    app.footer("float32 [tokens, vocabulary]. Activations are floats and the cache is f32, unless "
               "told otherwise.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
