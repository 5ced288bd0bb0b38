#pragma once

#include "core/files/model_sources.h"

#include <set>
#include <utility>

namespace nibble {

/// A search while it runs: its limits, what it has seen, and what it found.
class ModelSearch {
public:
    ModelSearch(const SearchLimits& limits, const Progress& progress);

    void setSource(const char* name) { m_source = name; }
    /// GGUF files and safetensors folders at any depth; `name` gives what to call one, or an empty
    /// text for its file's name.
    using Namer = std::function<std::string(const std::filesystem::path& path)>;
    void walk(const std::filesystem::path& folder, const Namer& name = {});

    /// A folder's entries by name; a note when it cannot be read. Empty when the search is over or
    /// was here before, as links can have it.
    std::vector<std::filesystem::path> entries(const std::filesystem::path& folder);
    /// A model, unless the file that it stands for was added before.
    void add(FoundFile found);
    void note(std::string sentence);
    /// Whether a limit was met; says so once.
    bool isOver();

    FoundFiles take() { return std::move(m_found); }

private:
    using FileId = std::pair<uint64_t, uint64_t>; ///< device and inode
    static std::optional<FileId> idOf(const std::filesystem::path& path);
    void walk(const std::filesystem::path& folder, int depth, const Namer& name);
    void addGguf(const std::filesystem::path& path,
                 const std::vector<std::filesystem::path>& beside, const Namer& name);
    bool addFolder(const std::filesystem::path& folder,
                   const std::vector<std::filesystem::path>& inside, const Namer& name);

    SearchLimits m_limits;
    Progress m_progress;
    std::chrono::steady_clock::time_point m_end;
    std::string m_source;
    FoundFiles m_found;
    std::set<FileId> m_seenFolders, m_seenFiles;
    size_t m_entries = 0;
    bool m_stopped = false;
};

std::vector<std::filesystem::path> ollamaFolders(const UserPlaces& user);
void searchOllama(ModelSearch& search, const std::filesystem::path& folder);
std::vector<std::filesystem::path> huggingFaceFolders(const UserPlaces& user);
void searchHuggingFace(ModelSearch& search, const std::filesystem::path& folder);
std::vector<std::filesystem::path> lmStudioFolders(const UserPlaces& user);
void searchFolder(ModelSearch& search, const std::filesystem::path& folder);

} // namespace nibble
