#include "core/serve/engine.h"

namespace nibble {

const ChatTemplate& chatTemplateFor(const Model& model, std::string_view name) {
    if (!name.empty())
        return getChatTemplate(name);
    const ChatTemplate& found = detectChatTemplate(model.chatTemplate);
    if (found.matches(model.chatTemplate))
        return found;
    std::string known;
    for (const ChatTemplate& row : chatTemplates())
        known += (known.empty() ? "" : ", ") + std::string(row.name);
    fail(ErrorKind::BadInput,
         "{}: its chat template is none of the built-in formats, and full templates are not "
         "supported yet. Name one of these formats, or use a raw prompt: {}.",
         printable(model.name), known);
}

std::vector<TokenId> encodePrompt(const Model& model, const ChatRequest& request) {
    model.requireTokenizer("it cannot read text");
    const std::string text =
        request.rawPrompt.empty()
            ? chatTemplateFor(model, request.templateName).render(request.messages, true)
            : request.rawPrompt;
    std::vector<TokenId> tokens = model.tokenizer->encode(text, true);
    const Tokenizer::Info& info = model.tokenizer->info();
    if (info.addBos && info.bos >= 0 && (tokens.empty() || tokens.front() != info.bos))
        tokens.insert(tokens.begin(), info.bos);
    return tokens;
}

} // namespace nibble
