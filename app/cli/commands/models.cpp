#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "core/files/model_sources.h"

#include <cstdio>
#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string folder;
    bool json = false;
};

const char* text(FoundFile::Kind kind) {
    switch (kind) {
    case FoundFile::Kind::Model:
        return "model";
    case FoundFile::Kind::Projector:
        return "vision projector";
    case FoundFile::Kind::Adapter:
        return "adapter";
    }
    return "";
}

Json describe(const FoundFile& found) {
    return {{"name", found.name},
            {"source", found.source},
            {"kind", text(found.kind)},
            {"path", found.path.string()},
            {"bytes", found.bytes},
            {"parts", found.parts},
            {"problem", found.problem.empty() ? Json(nullptr) : Json(found.problem)}};
}

int run(const Options& options) {
    const Progress progress = terminalProgress();
    const FoundFiles found = options.folder.empty()
                                 ? findModels(thisUser(), {}, progress)
                                 : findModelsUnder(options.folder, "Folder", {}, progress);
    if (options.json) {
        Json models = Json::array();
        for (const FoundFile& model : found.models)
            models.push_back(describe(model));
        printJson({{"models", models}, {"notes", found.notes}});
        return 0;
    }
    Table table({{"model", Table::Align::Left},
                 {"found in", Table::Align::Left},
                 {"kind", Table::Align::Left},
                 {"size", Table::Align::Right},
                 {"path", Table::Align::Left}});
    for (const FoundFile& model : found.models)
        table.add({printable(model.name), model.source,
                   model.problem.empty() ? text(model.kind) : "not whole", bytesText(model.bytes),
                   printable(model.path.string(), 400)});
    print(found.models.empty() ? "No models were found.\n" : table.text());
    for (const FoundFile& model : found.models)
        if (!model.problem.empty())
            std::fprintf(stderr, "%s: %s\n", printable(model.name).c_str(), model.problem.c_str());
    for (const std::string& note : found.notes)
        std::fprintf(stderr, "%s\n", note.c_str());
    return 0;
}

} // namespace

Action defineModels(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("FOLDER", options->folder,
                   "Look only here (default: where LM Studio, Ollama, the Hugging Face cache, "
                   "llama.cpp and others keep models)")
        ->check(CLI::ExistingDirectory);
    addJson(app, options->json);
    app.footer("Models are found where they lie; nothing is copied or written there.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
