#pragma once

#include "core/model/model.h"
#include "core/template/chat_template.h"

namespace nibble {

/// The template that a model's conversations are put through, and where it is from.
struct ChatFormat {
    enum class Origin { Model, BuiltIn, File };
    Origin origin = Origin::Model;
    std::string name; ///< "own", a built-in one's name, or a file's
    std::shared_ptr<const ChatTemplate> chat;
    /// A sentence where it was chosen for want of the model's own, or does not fit the model; else
    /// empty.
    std::string note;
    bool fits = true; ///< false where answers may suffer from it
};

/// The template of that name: a built-in one's, a path of a file, "own" for the model's own, or
/// empty for the usual: the model's own, or where it has none the built-in one whose marks its
/// vocabulary has, or "plain". Error{Usage} for an unknown name; Error{BadInput} (TemplateError)
/// when it cannot be read.
ChatFormat chatFormat(const Model& model, std::string_view name = {});

/// A conversation as a text that the model reads.
struct ChatPrompt {
    std::string text;
    std::string note; ///< a sentence when the conversation had to be put otherwise
};
/// Bos and eos are the model's. A template that refuses a system message gets it inside the first
/// prompt, and one that takes only text gets the parts joined; both are noted. Error{BadInput}
/// (TemplateError) when it refuses all the same.
ChatPrompt chatPrompt(const Model& model, const ChatFormat& format,
                      std::span<const ChatMessage> messages, bool openAssistant);

/// The prompt's tokens: those that the template writes out are tokens, and BOS stands in front
/// once where the model wants one. Error{BadInput} when the model has no tokenizer.
std::vector<TokenId> encodeChat(const Model& model, std::string_view text);

} // namespace nibble
