#pragma once

#include "core/template/template.h"

#include <span>
#include <vector>

namespace nibble {

struct ChatMessage {
    std::string role; ///< system, user, assistant, tool
    std::string content;
    /// All fields as templates see them, where there are more than these two (tool_calls,
    /// reasoning_content, a content of several parts…); null = only these.
    std::shared_ptr<const OrderedJson> fields = {};
};

/// The messages of a list as chat interfaces exchange them. Content may be text, null or parts.
/// Error{BadInput} that names `source` and the message.
std::vector<ChatMessage> chatMessages(const OrderedJson& list, std::string_view source);

/// What a template is given.
struct ChatInput {
    std::span<const ChatMessage> messages;
    bool openAssistant = true; ///< add_generation_prompt
    std::string bos, eos;      ///< texts of these tokens; empty = the model has none
    /// Other variables (tools, enable_thinking…), and others than these for the ones above; null =
    /// none.
    std::shared_ptr<const OrderedJson> variables = {};
    std::optional<std::chrono::year_month_day> date = {}; ///< unset = today
};

/// A template that turns conversations into prompts.
class ChatTemplate {
public:
    /// Error{BadInput} (TemplateError) where the source is no template.
    ChatTemplate(std::string name, std::string_view source) : m_template(source, std::move(name)) {}
    /// Exactly what transformers gives for the same template, messages and variables.
    /// Error{BadInput} (TemplateError) when the template fails, or refuses the conversation.
    std::string render(const ChatInput& input) const;

private:
    Template m_template;
};

/// A template for models that have none.
struct BuiltInTemplate {
    const char* name;  ///< "chatml"
    const char* about; ///< whose models use it
    /// What it writes around turns, and models made for it have as tokens of their own; empty =
    /// nothing that would be one.
    std::vector<std::string_view> marks;
    const char* source;
};
std::span<const BuiltInTemplate> builtInTemplates();
/// Null when there is none of that name.
const BuiltInTemplate* findBuiltInTemplate(std::string_view name);

/// The messages with each content as one text: parts of text joined, others left out. Built-in
/// templates take no other.
std::vector<ChatMessage> flattened(std::span<const ChatMessage> messages);

/// The messages with a system message at their start put into the first prompt, for templates that
/// take none. Nothing when there is no such pair.
std::optional<std::vector<ChatMessage>> withoutSystem(std::span<const ChatMessage> messages);

} // namespace nibble
