#include "core/base/error.h"
#include "core/serve/engine.h"
#include "core/template/template_error.h"

namespace nibble {

std::vector<TokenId> encodePrompt(const Model& model, const ChatRequest& request,
                                  std::string* note) {
    model.requireTokenizer("it cannot read text");
    if (!request.rawPrompt.empty())
        return encodeChat(model, request.rawPrompt);
    try {
        const ChatPrompt prompt =
            chatPrompt(model, chatFormat(model, request.templateName), request.messages, true);
        if (note)
            *note = prompt.note;
        return encodeChat(model, prompt.text);
    } catch (const TemplateError& error) {
        fail(error.kind(), "{} Choose another template, or change the conversation.", error.what());
    }
}

} // namespace nibble
