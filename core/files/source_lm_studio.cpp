#include "core/base/mapped_file.h"
#include "core/files/model_search.h"

#include <nlohmann/json.hpp>

namespace nibble {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kSettingsBytes = 1 << 20;

/// A small text, or an empty one where there is none.
std::string textOf(const fs::path& file) {
    std::error_code ignored;
    if (!fs::is_regular_file(file, ignored))
        return {};
    try {
        return readTextFile(file, kSettingsBytes);
    } catch (const Error&) { // not readable: as if it were not there
        return {};
    }
}

/// Where its home was moved to: a file in the user's says so.
std::vector<fs::path> homes(const UserPlaces& user) {
    std::vector<fs::path> found;
    std::string moved = textOf(user.home / ".lmstudio-home-pointer");
    while (!moved.empty() && (moved.back() == '\n' || moved.back() == '\r' || moved.back() == ' '))
        moved.pop_back();
    if (fs::path(moved).is_absolute())
        found.emplace_back(moved);
    found.push_back(user.home / ".lmstudio");
    found.push_back(user.cache() / "lm-studio");
    found.push_back(user.home / ".cache/lm-studio");
    return found;
}

} // namespace

std::vector<fs::path> lmStudioFolders(const UserPlaces& user) {
    std::vector<fs::path> folders;
    for (const fs::path& home : homes(user)) {
        const auto settings = nlohmann::json::parse(textOf(home / "settings.json"), nullptr, false);
        if (settings.is_object() && settings.contains("downloadsFolder") &&
            settings["downloadsFolder"].is_string())
            if (const fs::path chosen = settings["downloadsFolder"].get<std::string>();
                chosen.is_absolute())
                folders.push_back(chosen);
        folders.push_back(home / "models");
    }
    return folders;
}

} // namespace nibble
