#include "core/template/chat_template.h"

#include "core/base/error.h"

#include <nlohmann/json.hpp>

namespace nibble {
namespace {

bool isTextPart(const OrderedJson& part) {
    return part.is_object() && part.contains("text") && part["text"].is_string();
}

/// The text in a content: itself, or its parts' joined.
std::string textOf(const OrderedJson& content) {
    if (content.is_string())
        return content.get<std::string>();
    std::string out;
    if (!content.is_array())
        return out;
    for (const OrderedJson& part : content) {
        if (part.is_string())
            out += part.get<std::string>();
        else if (isTextPart(part))
            out += part["text"].get<std::string>();
    }
    return out;
}

OrderedJson toJson(const ChatMessage& message) {
    if (message.fields)
        return *message.fields;
    return {{"role", message.role}, {"content", message.content}};
}

/// The message with another text.
ChatMessage withText(const ChatMessage& message, std::string text) {
    ChatMessage out = message;
    out.content = std::move(text);
    if (out.fields) {
        auto fields = std::make_shared<OrderedJson>(*out.fields);
        (*fields)["content"] = out.content;
        out.fields = std::move(fields);
    }
    return out;
}

} // namespace

std::vector<ChatMessage> chatMessages(const OrderedJson& list, std::string_view source) {
    std::vector<ChatMessage> out;
    const auto bad = [&](const std::string& what) {
        fail(ErrorKind::BadInput,
             "{}: message {} {}; expected {{\"role\":\"user\",\"content\":\"…\"}}.",
             printable(source), out.size() + 1, what);
    };
    if (!list.is_array())
        fail(ErrorKind::BadInput, "{}: the messages are no list; expected {}.", printable(source),
             R"({"messages":[{"role":"user","content":"…"}…]})");
    for (const OrderedJson& entry : list) {
        if (!entry.is_object())
            bad("is no object");
        if (!entry.contains("role") || !entry["role"].is_string())
            bad("has no text \"role\"");
        ChatMessage message;
        message.role = entry["role"].get<std::string>();
        const auto content = entry.find("content");
        if (content != entry.end()) {
            if (!content->is_string() && !content->is_array() && !content->is_null())
                bad("has a \"content\" that is neither text nor a list of parts");
            message.content = textOf(*content);
        } else if (entry.size() == 1) {
            bad("has no \"content\"");
        }
        if (entry.size() != 2 || content == entry.end() || !content->is_string())
            message.fields = std::make_shared<const OrderedJson>(entry);
        out.push_back(std::move(message));
    }
    return out;
}

std::string ChatTemplate::render(const ChatInput& input) const {
    OrderedJson variables = {{"messages", OrderedJson::array()},
                             {"tools", nullptr},
                             {"documents", nullptr},
                             {"add_generation_prompt", input.openAssistant}};
    for (const ChatMessage& message : input.messages)
        variables["messages"].push_back(toJson(message));
    if (!input.bos.empty())
        variables["bos_token"] = input.bos;
    if (!input.eos.empty())
        variables["eos_token"] = input.eos;
    if (input.variables && input.variables->is_object())
        for (const auto& [name, value] : input.variables->items())
            variables[name] = value;
    return m_template.render(variables, {input.date});
}

std::vector<ChatMessage> flattened(std::span<const ChatMessage> messages) {
    std::vector<ChatMessage> out;
    for (const ChatMessage& message : messages)
        out.push_back(message.fields ? withText(message, message.content) : message);
    return out;
}

std::optional<std::vector<ChatMessage>> withoutSystem(std::span<const ChatMessage> messages) {
    if (messages.size() < 2 || messages[0].role != "system" || messages[1].role != "user")
        return {};
    std::vector<ChatMessage> out(messages.begin() + 1, messages.end());
    out[0] = withText(out[0], messages[0].content + "\n\n" + out[0].content);
    return out;
}

} // namespace nibble
