#include "core/model/chat_format.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/template/template_error.h"

#include <algorithm>

namespace nibble {
namespace {

bool hasToken(const Model& model, std::string_view text) {
    return model.tokenizer && model.tokenizer->encode(text, true).size() == 1;
}

/// Whether what the template writes around turns are tokens of the model.
bool hasMarks(const Model& model, const BuiltInTemplate& row) {
    return std::ranges::all_of(row.marks, [&](auto mark) { return hasToken(model, mark); });
}

ChatFormat builtIn(const BuiltInTemplate& row, std::string note, bool fits = true) {
    return {
        ChatFormat::Origin::BuiltIn, row.name,
        std::make_shared<const ChatTemplate>(fmt::format("the built-in {}", row.name), row.source),
        std::move(note), fits};
}

ChatFormat usual(const Model& model) {
    const std::string name = printable(model.name);
    for (const BuiltInTemplate& row : builtInTemplates())
        if (!row.marks.empty() && hasMarks(model, row))
            return builtIn(row, fmt::format("{} has no chat template; {} is used, because its "
                                            "vocabulary has {}.",
                                            name, row.name, row.marks.front()));
    return builtIn(*findBuiltInTemplate("plain"),
                   fmt::format("{} has no chat template, and its vocabulary fits none of the "
                               "built-in ones, so it gets the text as it is; answers may suffer. "
                               "Choose a template if you know which it was trained with.",
                               name),
                   false);
}

std::string known() {
    std::string names;
    for (const BuiltInTemplate& row : builtInTemplates())
        names += (names.empty() ? "" : ", ") + std::string(row.name);
    return names;
}

std::string tokenText(const Model& model, TokenId id) {
    return id >= 0 ? model.tokenizer->piece(id, true) : std::string();
}

} // namespace

ChatFormat chatFormat(const Model& model, std::string_view name) {
    if (name.empty() && model.chatTemplate.empty())
        return usual(model);
    if (name.empty() || name == "own") {
        if (model.chatTemplate.empty())
            fail(ErrorKind::BadInput,
                 "{} has no chat template of its own; there are {}, or a file.",
                 printable(model.name), known());
        return {ChatFormat::Origin::Model,
                "own",
                std::make_shared<const ChatTemplate>(model.name, model.chatTemplate),
                {}};
    }
    if (const BuiltInTemplate* row = findBuiltInTemplate(name)) {
        if (hasMarks(model, *row))
            return builtIn(*row, {});
        return builtIn(*row,
                       fmt::format("{} writes {} around turns, which is no token of {}; answers "
                                   "may suffer.",
                                   row->name, row->marks.front(), printable(model.name)),
                       false);
    }
    const std::filesystem::path file(name);
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(file, ignored))
        fail(ErrorKind::Usage,
             "There is no chat template \"{}\" and no such file; there are {}, and \"own\" for the "
             "model's.",
             printable(name), known());
    return {ChatFormat::Origin::File,
            file.filename().string(),
            std::make_shared<const ChatTemplate>(
                file.filename().string(), readTextFile(file.string(), limits::kTemplateBytes)),
            {}};
}

ChatPrompt chatPrompt(const Model& model, const ChatFormat& format,
                      std::span<const ChatMessage> messages, bool openAssistant) {
    ChatInput input;
    input.openAssistant = openAssistant;
    if (model.tokenizer) {
        input.bos = tokenText(model, model.tokenizer->info().bos);
        input.eos = tokenText(model, model.tokenizer->info().eos);
    }
    const auto render = [&](std::span<const ChatMessage> with) {
        input.messages = with;
        return format.chat->render(input);
    };
    if (format.origin == ChatFormat::Origin::BuiltIn)
        return {render(flattened(messages)), {}};
    try {
        return {render(messages), {}};
    } catch (const TemplateError& error) {
        // Tried in this order, each once; what fails in the end is what was said first.
        struct Way {
            std::optional<std::vector<ChatMessage>> messages;
            std::string note;
        };
        const std::vector<ChatMessage> flat = flattened(messages);
        const std::string moved = fmt::format(
            "The chat template takes no system message (\"{}\"), so the system prompt stands at "
            "the start of the first prompt.",
            printable(error.message()));
        const Way ways[] = {
            {withoutSystem(messages), moved},
            {flat, "The chat template takes only text, so the parts of a message were joined."},
            {withoutSystem(flat), moved}};
        for (const Way& way : ways) {
            if (!way.messages)
                continue;
            try {
                return {render(*way.messages), way.note};
            } catch (const TemplateError&) {
            }
        }
        throw;
    }
}

std::vector<TokenId> encodeChat(const Model& model, std::string_view text) {
    if (!model.tokenizer)
        fail(ErrorKind::BadInput, "{} has no tokenizer, so that it cannot read text.",
             printable(model.name));
    std::vector<TokenId> tokens = model.tokenizer->encode(text, true);
    const Tokenizer::Info& info = model.tokenizer->info();
    if (info.addBos && info.bos >= 0 && (tokens.empty() || tokens.front() != info.bos))
        tokens.insert(tokens.begin(), info.bos);
    return tokens;
}

} // namespace nibble
