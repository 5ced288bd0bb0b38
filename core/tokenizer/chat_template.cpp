#include "core/tokenizer/chat_template.h"

#include "core/base/error.h"

namespace nibble {
namespace {

using Messages = std::span<const ChatMessage>;

bool has(std::string_view jinja, std::string_view marker) {
    return jinja.find(marker) != std::string_view::npos;
}

std::string trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\n\v\f\r";
    const size_t begin = text.find_first_not_of(kSpace);
    if (begin == std::string_view::npos)
        return {};
    return std::string(text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin));
}

// The system text, taken off the front, for formats that write it elsewhere.
std::string takeSystem(Messages& messages) {
    if (messages.empty() || messages.front().role != "system")
        return {};
    std::string text = messages.front().content;
    messages = messages.subspan(1);
    return text;
}

std::string renderChatml(Messages messages, bool open) {
    std::string out;
    for (const ChatMessage& message : messages)
        out += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
    return open ? out + "<|im_start|>assistant\n" : out;
}

std::string renderQwen25(Messages messages, bool open) {
    if (!messages.empty() && messages.front().role == "system")
        return renderChatml(messages, open);
    return "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
           "assistant.<|im_end|>\n" +
           renderChatml(messages, open);
}

std::string llama3Turn(const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content + "<|eot_id|>";
}

std::string renderLlama3(Messages messages, bool open) {
    std::string out;
    for (const ChatMessage& message : messages)
        out += llama3Turn(message.role, trimmed(message.content));
    return open ? out + "<|start_header_id|>assistant<|end_header_id|>\n\n" : out;
}

std::string renderLlama31(Messages messages, bool open) {
    const std::string system = trimmed(takeSystem(messages));
    return llama3Turn("system",
                      "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n" +
                          system) +
           renderLlama3(messages, open);
}

std::string renderLlama2(Messages messages, bool) {
    std::string system = takeSystem(messages), out;
    if (!system.empty())
        system = "<<SYS>>\n" + system + "\n<</SYS>>\n\n";
    for (const ChatMessage& message : messages) {
        if (message.role == "assistant") {
            out += " " + trimmed(message.content) + " </s>";
            continue;
        }
        // Every question starts a text of its own; the first one's BOS is left to the caller.
        out += (out.empty() ? "" : "<s>") + ("[INST] " + trimmed(system + message.content)) +
               " [/INST]";
        system.clear();
    }
    return out;
}

std::string mistral(Messages messages, const char* open, const char* close, bool systemLast) {
    std::string system = takeSystem(messages), out;
    if (!system.empty())
        system += "\n\n";
    for (size_t i = 0; i < messages.size(); ++i) {
        const ChatMessage& message = messages[i];
        if (message.role == "assistant") {
            out += (close[0] == ' ' ? " " : "") + message.content + "</s>";
            continue;
        }
        const bool takesSystem = systemLast ? i + 1 == messages.size() : i == 0;
        out += open + (takesSystem ? system : "") + message.content + close;
    }
    return out;
}

std::string renderMistral(Messages messages, bool) {
    return mistral(messages, "[INST]", "[/INST]", true);
}
std::string renderMistralSpaced(Messages messages, bool) {
    return mistral(messages, "[INST] ", " [/INST]", false);
}

std::string renderGemma(Messages messages, bool open) {
    std::string system = takeSystem(messages), out;
    if (!system.empty())
        system += "\n\n";
    for (const ChatMessage& message : messages) {
        const bool answer = message.role == "assistant";
        out += "<start_of_turn>" + (answer ? "model" : message.role) + "\n" +
               (answer ? "" : system) + trimmed(message.content) + "<end_of_turn>\n";
        if (!answer)
            system.clear();
    }
    return open ? out + "<start_of_turn>model\n" : out;
}

std::string renderPhi3(Messages messages, bool open) {
    std::string out;
    for (const ChatMessage& message : messages)
        out += "<|" + message.role + "|>\n" + message.content + "<|end|>\n";
    return open ? out + "<|assistant|>\n" : out;
}

// For models without a chat format: the text itself, which the model continues.
std::string renderPlain(Messages messages, bool) {
    std::string out;
    for (const ChatMessage& message : messages) {
        if (!out.empty() && message.role != "assistant" && out.back() != '\n')
            out += '\n';
        out += message.content;
    }
    return out;
}

// More special formats first: detection takes the first row that matches.
constexpr ChatTemplate kTemplates[] = {
    {"qwen2.5",
     [](std::string_view jinja) {
         return has(jinja, "<|im_start|>") && has(jinja, "You are Qwen, created by Alibaba Cloud.");
     },
     renderQwen25},
    {"chatml", [](std::string_view jinja) { return has(jinja, "<|im_start|>"); }, renderChatml},
    {"llama-3.1",
     [](std::string_view jinja) {
         return has(jinja, "<|start_header_id|>") && has(jinja, "Cutting Knowledge Date");
     },
     renderLlama31},
    {"llama-3", [](std::string_view jinja) { return has(jinja, "<|start_header_id|>"); },
     renderLlama3},
    {"llama-2",
     [](std::string_view jinja) { return has(jinja, "[INST]") && has(jinja, "<<SYS>>"); },
     renderLlama2},
    {"mistral-v1", [](std::string_view jinja) { return has(jinja, "[INST] "); },
     renderMistralSpaced},
    {"mistral", [](std::string_view jinja) { return has(jinja, "[INST]"); }, renderMistral},
    {"gemma", [](std::string_view jinja) { return has(jinja, "<start_of_turn>"); }, renderGemma},
    {"phi-3",
     [](std::string_view jinja) { return has(jinja, "<|assistant|>") && has(jinja, "<|end|>"); },
     renderPhi3},
    {"plain", [](std::string_view jinja) { return jinja.empty(); }, renderPlain},
};

} // namespace

std::span<const ChatTemplate> chatTemplates() {
    return kTemplates;
}

const ChatTemplate& getChatTemplate(std::string_view name) {
    std::string known;
    for (const ChatTemplate& row : kTemplates) {
        if (name == row.name)
            return row;
        known += (known.empty() ? "" : ", ") + std::string(row.name);
    }
    fail(ErrorKind::Usage, "There is no chat format \"{}\"; there are {}.", printable(name), known);
}

const ChatTemplate& detectChatTemplate(std::string_view jinja) {
    for (const ChatTemplate& row : kTemplates)
        if (row.matches(jinja))
            return row;
    return getChatTemplate("plain");
}

} // namespace nibble
