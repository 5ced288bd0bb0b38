#include "core/calibrate/chat_text.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/json_text.h"
#include "core/model/chat_format.h"

#include <algorithm>
#include <fmt/format.h>

namespace nibble {
namespace {

constexpr uint64_t kChatBytes = 64ull << 20; ///< of one conversation
/// Other ways that a conversation took lie inside each other, three levels of JSON each.
constexpr int kDepth = 640;

/// A conversation as the workbench stores it: four bytes of size, then zlib-compressed JSON.
std::vector<ChatMessage> readChat(const std::filesystem::path& path) {
    const Bytes bytes = mapFile(path);
    const std::string name = path.filename().string();
    if (bytes.size() < 5)
        fail(ErrorKind::BadInput, "{} is not a chat of Nibble.", printable(name));
    const nlohmann::json chat =
        parseJson(inflateText(bytes.view().subspan(4), kChatBytes), name, kDepth);
    const auto text = [](const nlohmann::json& in, const char* key) {
        const auto at = in.find(key);
        return at != in.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    std::vector<ChatMessage> messages;
    if (const std::string system = chat.is_object() ? text(chat, "system_prompt") : "";
        !system.empty())
        messages.push_back({"system", system});
    const auto turns = chat.is_object() ? chat.find("turns") : chat.end();
    if (turns == chat.end() || !turns->is_array())
        fail(ErrorKind::BadInput, "{} holds no conversation.", printable(name));
    for (const nlohmann::json& turn : *turns)
        if (turn.is_object() && !text(turn, "text").empty())
            messages.push_back({text(turn, "role"), text(turn, "text")});
    return messages;
}

std::vector<std::filesystem::path> chatFiles(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path))
        return {path};
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path))
        if (entry.path().extension() == ".chat")
            files.push_back(entry.path());
    std::sort(files.begin(), files.end()); // the text's hash should not depend on the disk
    return files;
}

} // namespace

EvaluationText chatText(const Model& model, const std::filesystem::path& path) {
    const ChatFormat format = chatFormat(model);
    const bool isFolder = std::filesystem::is_directory(path);
    EvaluationText out;
    out.special = true; // the format's own marks are tokens
    int count = 0;
    for (const auto& file : chatFiles(path)) {
        std::vector<ChatMessage> messages;
        try {
            messages = readChat(file);
        } catch (const Error&) {
            if (!isFolder)
                throw;
        }
        if (messages.empty() || out.text.size() > limits::kTextBytes)
            continue;
        // A conversation that the template refuses is passed over in a folder, as a damaged one is.
        try {
            out.text += chatPrompt(model, format, messages, false).text;
        } catch (const Error&) {
            if (!isFolder)
                throw;
            continue;
        }
        ++count;
    }
    if (count == 0)
        fail(
            ErrorKind::BadInput,
            "{}: there is no chat in it yet. Chats are files named \"….chat\"; the workbench keeps "
            "one for each conversation.",
            printable(path.string()));
    out.label = fmt::format("own chats ({} conversation{})", count, count == 1 ? "" : "s");
    return out;
}

} // namespace nibble
