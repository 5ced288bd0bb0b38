#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"

#include <nlohmann/json.hpp>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, messages;
    bool json = false;
};

struct Conversation {
    std::vector<ChatMessage> messages;
    bool openAssistant = true;
};

Conversation readConversation(const std::string& file) {
    const auto bad = [&](const std::string& what) {
        fail(ErrorKind::BadInput,
             "{}: {}; expected {{\"messages\":[{{\"role\":\"user\",\"content\":\"…\"}}…]}}.",
             printable(file), what);
    };
    const auto depthLimit = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        if (depth > limits::kJsonDepth)
            fail(ErrorKind::BadInput, "The messages are nested more than {} levels deep.",
                 limits::kJsonDepth);
        return true;
    };
    const auto json =
        nlohmann::json::parse(readTextFile(file, limits::kJsonBytes), depthLimit, false);
    if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array())
        bad("there is no list \"messages\"");
    Conversation conversation;
    for (const auto& message : json["messages"]) {
        const auto text = [&](const char* key) {
            if (!message.is_object() || !message.contains(key) || !message[key].is_string())
                bad(std::string("a message has no text \"") + key + '"');
            return message[key].get<std::string>();
        };
        conversation.messages.push_back({text("role"), text("content")});
    }
    if (json.contains("add_generation_prompt") && json["add_generation_prompt"].is_boolean())
        conversation.openAssistant = json["add_generation_prompt"].get<bool>();
    return conversation;
}

int run(const Options& options) {
    if (std::filesystem::path(options.model).extension() == ".jinja")
        fail(ErrorKind::BadInput,
             "{}: full Jinja templates are not supported yet, only the built-in chat formats; give "
             "a model that uses one of them.",
             printable(options.model));
    const auto model = openModelArgument(options.model);
    const Conversation conversation = readConversation(options.messages);
    const ChatTemplate& format = chatTemplateFor(*model, "");
    const std::string prompt = format.render(conversation.messages, conversation.openAssistant);
    if (options.json)
        printJson({{"prompt", prompt}, {"format", format.name}});
    else
        print(prompt);
    return 0;
}

} // namespace

Action defineTemplate(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_option("--messages", options->messages, "The conversation, a JSON file")->required();
    addJson(app, options->json);
    app.footer("Built-in chat formats only; BOS is not written.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
