#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

struct ChatMessage {
    std::string role; ///< system, user, assistant
    std::string content;
};

/// A built-in chat format: one row per name (chat_template.cpp).
struct ChatTemplate {
    const char* name; ///< "chatml", "llama-3", "llama-2", "mistral", "gemma", "plain"
    /// Tells whether a model's own Jinja template is this format (by its markers).
    bool (*matches)(std::string_view jinja);
    /// The prompt; ends with the opening of an assistant turn when asked. BOS is not written.
    std::string (*render)(std::span<const ChatMessage> messages, bool openAssistant);
};
std::span<const ChatTemplate> chatTemplates();
const ChatTemplate& getChatTemplate(std::string_view name);
/// The built-in format that a model's template stands for; "plain" when it has none or none
/// matches.
const ChatTemplate& detectChatTemplate(std::string_view jinja);

} // namespace nibble
