#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"

#include <fmt/format.h>

#include <cstdio>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, text, file;
    std::vector<TokenId> tokens;
    bool special = false, json = false;
};

/// The tokenizer of a model, of a GGUF file without tensors, or of one of the files that hold a
/// tokenizer alone (named, or as all that a folder has).
std::shared_ptr<const Tokenizer> openTokenizerArgument(const std::string& argument) {
    const auto path = modelPath(argument);
    std::error_code ignored;
    std::shared_ptr<const Tokenizer> tokenizer;
    const bool folder = std::filesystem::is_directory(path, ignored);
    const auto file = findTokenizerFile(folder ? path : path.parent_path());
    const bool alone = folder ? !std::filesystem::exists(path / "config.json", ignored)
                              : path.extension() == ".json" || path.extension() == ".model";
    if (alone && !file.empty())
        tokenizer = openTokenizerFile(folder ? file : path);
    else
        tokenizer = openTokenizer(*openCheckpoint(path));
    if (!tokenizer)
        fail(ErrorKind::BadInput, "{}: there is no tokenizer in this model.",
             printable(path.string()));
    for (const std::string& warning : tokenizer->info().warnings)
        std::fprintf(stderr, "nibble-cli: %s\n", warning.c_str());
    return tokenizer;
}

int tokenize(const Options& options, bool textGiven) {
    if (textGiven == !options.file.empty())
        fail(ErrorKind::Usage, "Give the text with either --text or --file.");
    const auto tokenizer = openTokenizerArgument(options.model);
    const std::string text =
        textGiven ? options.text : readTextFile(options.file, limits::kTextBytes);
    const auto tokens = tokenizer->encode(text, options.special);
    if (options.json) {
        printJson({{"tokens", tokens}});
        return 0;
    }
    Table table({{"id", Table::Align::Right}, {"text", Table::Align::Left}});
    for (const TokenId token : tokens)
        table.add({std::to_string(token), '"' + printable(tokenizer->piece(token, true)) + '"'});
    print(table.text() + fmt::format("\n{} tokens\n", tokens.size()));
    return 0;
}

int detokenize(const Options& options) {
    const auto tokenizer = openTokenizerArgument(options.model);
    requireTokens(options.tokens, tokenizer->info().size);
    const std::string text = tokenizer->decode(options.tokens, options.special);
    if (options.json)
        printJson({{"text", text}});
    else
        print(text + "\n");
    return 0;
}

} // namespace

Action defineTokenize(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    auto* text = app.add_option("--text", options->text, "The text");
    app.add_option("--file", options->file, "A file with the text");
    app.add_flag("--special", options->special, "Read control tokens written in the text as such");
    addJson(app, options->json);
    app.footer("MODEL may also be a file with a vocabulary alone. BOS is not added.");
    return [options, text] { return tokenize(*options, text->count() > 0); };
}

Action defineDetokenize(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_option("--tokens", options->tokens, "Ids, separated by commas")
        ->delimiter(',')
        ->required();
    app.add_flag("--special", options->special, "Write control tokens out");
    addJson(app, options->json);
    return [options] { return detokenize(*options); };
}

} // namespace nibble::cli
