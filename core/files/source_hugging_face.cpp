#include "core/base/mapped_file.h"
#include "core/files/model_search.h"
#include "core/files/names.h"

#include <algorithm>

namespace nibble {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "models--";

/// "models--org--name" is "org/name".
std::string nameOf(const std::string& folder) {
    std::string name = folder.substr(kPrefix.size());
    if (const size_t at = name.find("--"); at != std::string::npos)
        name.replace(at, 2, "/");
    return name;
}

/// The revision that refs/main names; without it the one that was written last.
fs::path newestSnapshot(ModelSearch& search, const fs::path& repository) {
    constexpr uint64_t kRefBytes = 4096;
    std::error_code ignored;
    const fs::path main = repository / "refs/main", snapshots = repository / "snapshots";
    if (fs::is_regular_file(main, ignored)) {
        try {
            std::string revision = readTextFile(main, kRefBytes);
            while (!revision.empty() && static_cast<unsigned char>(revision.back()) <= ' ')
                revision.pop_back();
            if (isPlainFileName(revision) && fs::is_directory(snapshots / revision, ignored))
                return snapshots / revision;
        } catch (const Error&) { // not readable: the newest will do
            ignored.clear();
        }
    }
    fs::path newest;
    fs::file_time_type when{};
    for (const fs::path& revision : search.entries(snapshots)) {
        const auto written = fs::last_write_time(revision, ignored);
        if (fs::is_directory(revision, ignored) && (newest.empty() || written > when)) {
            newest = revision;
            when = written;
        }
    }
    return newest;
}

} // namespace

std::vector<fs::path> huggingFaceFolders(const UserPlaces& user) {
    std::vector<fs::path> folders;
    for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
        if (const auto own = user.path(variable))
            folders.push_back(*own);
    if (const auto own = user.path("HF_HOME"))
        folders.push_back(*own / "hub");
    folders.push_back(user.cache() / "huggingface/hub");
    folders.push_back(user.home / ".cache/huggingface/hub");
    return folders;
}

void searchHuggingFace(ModelSearch& search, const fs::path& folder) {
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored))
        return;
    for (const fs::path& repository : search.entries(folder)) {
        const std::string name = repository.filename().string();
        if (!name.starts_with(kPrefix) || !fs::is_directory(repository, ignored))
            continue;
        const fs::path snapshot = newestSnapshot(search, repository);
        if (snapshot.empty())
            continue;
        search.walk(snapshot, [&](const fs::path& path) {
            // A repository may hold many GGUF files, or several folders of weights.
            std::error_code failed;
            if (!fs::is_directory(path, failed))
                return std::string();
            return path == snapshot ? nameOf(name) : nameOf(name) + "/" + path.filename().string();
        });
    }
}

} // namespace nibble
