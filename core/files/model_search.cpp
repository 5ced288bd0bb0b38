#include "core/files/model_search.h"

#include "core/files/names.h"
#include "core/files/shards.h"

#include <algorithm>
#include <fmt/format.h>
#include <sys/stat.h>

namespace nibble {

namespace fs = std::filesystem;

namespace {

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

bool isFile(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

uint64_t sizeOf(const fs::path& path) {
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    return error ? 0 : size;
}

/// A download that goes on, or that was given up: programs mark it by a file beside it.
bool isPartial(const fs::path& path, const std::vector<fs::path>& beside) {
    constexpr const char* kMarks[] = {".aria2", ".incomplete"};
    return std::ranges::any_of(kMarks, [&](const char* mark) {
        return std::ranges::find(beside, fs::path(path).concat(mark)) != beside.end();
    });
}

bool isGguf(const fs::path& path) {
    return lower(path.extension().string()) == ".gguf" &&
           !lower(path.filename().string()).starts_with("downloading_");
}

FoundFile::Kind kindByName(const fs::path& path) {
    return lower(path.filename().string()).find("mmproj") == std::string::npos
               ? FoundFile::Kind::Model
               : FoundFile::Kind::Projector;
}

/// The stem, without the numbers of a part; a name that says nothing takes its folder's.
std::string usualName(const fs::path& path) {
    const ShardName shard = shardName(path);
    const std::string stem = shard.isPart() ? shard.stem : path.stem().string();
    return lower(stem) == "model" && path.has_parent_path() ? path.parent_path().filename().string()
                                                            : stem;
}

} // namespace

ModelSearch::ModelSearch(const SearchLimits& limits, const Progress& progress)
    : m_limits(limits), m_progress(progress),
      m_end(std::chrono::steady_clock::now() + limits.time) {}

std::optional<ModelSearch::FileId> ModelSearch::idOf(const fs::path& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0)
        return std::nullopt;
    return FileId{info.st_dev, info.st_ino};
}

void ModelSearch::note(std::string sentence) {
    constexpr size_t kNotes = 50;
    if (m_found.notes.size() < kNotes)
        m_found.notes.push_back(std::move(sentence));
}

bool ModelSearch::isOver() {
    m_progress.check();
    if (m_stopped)
        return true;
    std::string why;
    if (m_found.models.size() >= m_limits.models)
        why = fmt::format("{} models were found", m_limits.models);
    else if (m_entries >= m_limits.entries)
        why = fmt::format("{} files and folders were looked at", m_limits.entries);
    else if (std::chrono::steady_clock::now() >= m_end)
        why = fmt::format("{:.0f} s had passed", double(m_limits.time.count()) * 1e-3);
    else
        return false;
    m_stopped = true;
    note(fmt::format("The search ended when {}, so that models may be missing; open others by "
                     "their path.",
                     why));
    return true;
}

std::vector<fs::path> ModelSearch::entries(const fs::path& folder) {
    std::vector<fs::path> found;
    const auto id = idOf(folder);
    if (!id || isOver() || !m_seenFolders.insert(*id).second)
        return found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        ++m_entries;
        if (isOver())
            break;
        found.push_back(it->path());
    }
    if (error)
        note(fmt::format("{} cannot be read ({}); its models are not listed.",
                         printable(folder.string(), 400), error.message()));
    std::ranges::sort(found);
    return found;
}

void ModelSearch::add(FoundFile found) {
    const auto id = idOf(found.path);
    if (id && !m_seenFiles.insert(*id).second)
        return;
    if (!isUtf8(found.path.string())) {
        note(fmt::format("{} has a name that is not valid UTF-8; rename it to open it here.",
                         printable(found.path.string(), 400)));
        return;
    }
    found.source = m_source;
    if (found.name.empty())
        found.name = usualName(found.path);
    m_found.models.push_back(std::move(found));
}

/// All parts of a split file are one model, opened by its first part, or else by the first there
/// is.
void ModelSearch::addGguf(const fs::path& path, const std::vector<fs::path>& beside,
                          const Namer& name) {
    FoundFile found;
    found.path = path;
    found.bytes = sizeOf(path);
    found.kind = kindByName(path);
    const ShardName shard = shardName(path);
    if (shard.isPart()) {
        uint64_t present = 0, first = 0;
        found.bytes = 0;
        for (const fs::path& other : beside) {
            const ShardName part = shardName(other);
            if (part.stem != shard.stem || part.count != shard.count || !isFile(other) ||
                part.number < 1 || part.number > part.count)
                continue;
            first = first == 0 ? part.number : std::min(first, part.number);
            ++present;
            found.bytes += sizeOf(other);
        }
        if (first != shard.number)
            return;
        found.parts = static_cast<int>(shard.count);
        if (present < shard.count)
            found.problem = fmt::format(
                "Of its {} parts only {} {} there. Download the others beside {}.", shard.count,
                present, present == 1 ? "is" : "are", printable(path.filename().string()));
    }
    if (name)
        found.name = name(path);
    add(std::move(found));
}

/// Whether the folder is a model by itself, or an adapter; its files are then not looked at one by
/// one.
bool ModelSearch::addFolder(const fs::path& folder, const std::vector<fs::path>& inside,
                            const Namer& name) {
    const auto has = [&](const char* file) {
        return std::ranges::find(inside, folder / file) != inside.end();
    };
    if (has("model_index.json")) // of a picture model, whose parts look like models
        return true;
    const bool adapter = has("adapter_config.json");
    if (!adapter && !has("config.json"))
        return false;
    FoundFile found;
    found.parts = 0;
    for (const fs::path& file : inside)
        if (file.extension() == ".safetensors" && isFile(file)) {
            found.bytes += sizeOf(file);
            ++found.parts;
        }
    if (found.parts == 0)
        return false;
    found.path = folder;
    found.kind = adapter ? FoundFile::Kind::Adapter : FoundFile::Kind::Model;
    found.name = name ? name(folder) : folder.filename().string();
    add(std::move(found));
    return true;
}

void ModelSearch::walk(const fs::path& folder, const Namer& name) {
    std::error_code ignored;
    if (fs::is_directory(folder, ignored))
        walk(folder, 0, name);
}

void ModelSearch::walk(const fs::path& folder, int depth, const Namer& name) {
    const std::vector<fs::path> inside = entries(folder);
    if (addFolder(folder, inside, name))
        return;
    for (const fs::path& path : inside) {
        if (isOver())
            return;
        std::error_code ignored;
        const bool hidden = path.filename().string().starts_with('.');
        if (fs::is_directory(path, ignored)) {
            if (!hidden && depth + 1 < m_limits.depth)
                walk(path, depth + 1, name);
        } else if (isGguf(path) && isFile(path) && !isPartial(path, inside)) {
            addGguf(path, inside, name);
        }
    }
}

} // namespace nibble
