#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/model/chat_format.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, messages, format;
    bool json = false;
};

OrderedJson readConversation(const std::string& file) {
    const auto depthLimit = [](int depth, OrderedJson::parse_event_t, OrderedJson&) {
        if (depth > limits::kJsonDepth)
            fail(ErrorKind::BadInput, "The messages are nested more than {} levels deep.",
                 limits::kJsonDepth);
        return true;
    };
    OrderedJson json =
        OrderedJson::parse(readTextFile(file, limits::kJsonBytes), depthLimit, false);
    if (!json.is_object() || !json.contains("messages"))
        fail(ErrorKind::BadInput,
             "{}: there is no list \"messages\"; expected "
             "{{\"messages\":[{{\"role\":\"user\",\"content\":\"…\"}}…]}}.",
             printable(file));
    return json;
}

std::chrono::year_month_day readDate(const OrderedJson& json) {
    int year = 0;
    unsigned month = 0, day = 0;
    char more = 0;
    const std::string text = json.is_string() ? json.get<std::string>() : std::string();
    const int found = std::sscanf(text.c_str(), "%4d-%2u-%2u%c", &year, &month, &day, &more);
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                           std::chrono::day(day)};
    if (found != 3 || !date.ok())
        fail(ErrorKind::BadInput, "The date of the messages is \"{}\"; expected YYYY-MM-DD.",
             printable(text));
    return date;
}

std::string textOr(const OrderedJson& json, const char* key, const std::string& other) {
    if (!json.contains(key))
        return other;
    return json[key].is_string() ? json[key].get<std::string>() : std::string();
}

struct Source {
    ChatFormat format;
    std::string bos, eos;
};

/// A model's template with its tokens, or a template from a file without any.
Source openSource(const Options& options) {
    if (std::filesystem::path(options.model).extension() == ".jinja") {
        const std::string name = std::filesystem::path(options.model).filename().string();
        return {{ChatFormat::Origin::File,
                 name,
                 std::make_shared<const ChatTemplate>(
                     name, readTextFile(options.model, limits::kTemplateBytes)),
                 {}},
                {},
                {}};
    }
    const auto model = openModelArgument(options.model);
    Source source{chatFormat(*model, options.format), {}, {}};
    if (model->tokenizer) {
        const Tokenizer::Info& info = model->tokenizer->info();
        const auto text = [&](TokenId id) {
            return id >= 0 ? model->tokenizer->piece(id, true) : std::string();
        };
        source.bos = text(info.bos);
        source.eos = text(info.eos);
    }
    return source;
}

int run(const Options& options) {
    const Source source = openSource(options);
    const OrderedJson file = readConversation(options.messages);
    std::vector<ChatMessage> messages = chatMessages(file["messages"], options.messages);
    if (source.format.origin == ChatFormat::Origin::BuiltIn)
        messages = flattened(messages);
    ChatInput input{.messages = messages,
                    .bos = textOr(file, "bos_token", source.bos),
                    .eos = textOr(file, "eos_token", source.eos)};
    OrderedJson variables = file;
    for (const char* known : {"messages", "date", "bos_token", "eos_token"})
        variables.erase(known);
    if (file.contains("date"))
        input.date = readDate(file["date"]);
    input.variables = std::make_shared<const OrderedJson>(std::move(variables));
    const std::string prompt = source.format.chat->render(input);
    if (options.json) {
        printJson(
            {{"prompt", prompt},
             {"format", source.format.name},
             {"note", source.format.note.empty() ? Json(nullptr) : Json(source.format.note)}});
    } else {
        print(prompt);
        if (!source.format.note.empty())
            std::fprintf(stderr, "%s\n", source.format.note.c_str());
    }
    return 0;
}

} // namespace

Action defineTemplate(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_option("--messages", options->messages, "The conversation, a JSON file")->required();
    app.add_option("--template", options->format,
                   "Another template: a built-in one's name, or a file (default: the model's)");
    addJson(app, options->json);
    app.footer("MODEL may be a .jinja file. The file of messages may also set "
               "add_generation_prompt, bos_token, eos_token, tools, date (YYYY-MM-DD) and any "
               "other variable of the template.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
