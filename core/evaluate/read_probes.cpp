#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/evaluate/probes.h"
#include "core/files/json_text.h"

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::json;

/// A line of the file, for messages.
struct Line {
    std::string source;
    size_t number;

    [[noreturn]] void refuse(std::string_view problem) const {
        fail(ErrorKind::BadInput, "{}, line {}: {}.", printable(source), number, problem);
    }
    std::string text(const Json& object, const char* field) const {
        if (!object.is_object() || !object.contains(field) || !object[field].is_string())
            refuse(fmt::format("\"{}\" is missing or no text", field));
        return object[field].get<std::string>();
    }
};

Probe readProbe(const Json& json, const Line& line) {
    if (!json.is_object())
        line.refuse("a JSON object with category, messages and answer was expected");
    Probe probe;
    probe.category = line.text(json, "category");
    probe.answer = line.text(json, "answer");
    if (isRightAnswer(" ", probe.answer))
        line.refuse("\"answer\" has no word in it, so that every reply would be right");
    if (!json.contains("messages") || !json["messages"].is_array() || json["messages"].empty())
        line.refuse("\"messages\" is missing or empty");
    for (const Json& message : json["messages"])
        probe.messages.push_back({line.text(message, "role"), line.text(message, "content")});
    if (probe.messages.back().role != "user")
        line.refuse("the last message must be the user's question");
    return probe;
}

} // namespace

std::vector<Probe> parseProbes(std::string_view text, std::string_view source) {
    std::vector<Probe> probes;
    for (size_t at = 0, number = 1; at < text.size(); ++number) {
        const size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view content = text.substr(at, end - at);
        at = end + 1;
        if (content.find_first_not_of(" \t\r") == std::string_view::npos)
            continue;
        const Line line{std::string(source), number};
        const Json json =
            parseJson(content, fmt::format("{}, line {}", source, number), limits::kJsonDepth);
        probes.push_back(readProbe(json, line));
    }
    if (probes.empty())
        fail(ErrorKind::BadInput, "{} holds no questions; one JSON object a line was expected.",
             printable(source));
    return probes;
}

std::vector<Probe> readProbes(const std::filesystem::path& path) {
    return parseProbes(readTextFile(path, limits::kJsonBytes), path.filename().string());
}

} // namespace nibble
