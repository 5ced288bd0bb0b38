#include "core/files/model_sources.h"

#include "core/files/model_search.h"

#include <cstdlib>

namespace nibble {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> llamaCppFolders(const UserPlaces& user) {
    std::vector<fs::path> folders;
    if (const auto own = user.path("LLAMA_CACHE"))
        folders.push_back(*own);
    folders.push_back(user.cache() / "llama.cpp");
    folders.push_back(user.home / ".cache/llama.cpp");
    return folders;
}

std::vector<fs::path> gpt4AllFolders(const UserPlaces& user) {
    return {user.data() / "nomic.ai/GPT4All"};
}

std::vector<fs::path> janFolders(const UserPlaces& user) {
    return {user.home / ".config/Jan/data/llamacpp/models",
            user.data() / "Jan/data/llamacpp/models", user.home / "jan/models"};
}

std::vector<fs::path> webuiFolders(const UserPlaces& user) {
    return {user.home / "text-generation-webui/user_data/models",
            user.home / "text-generation-webui/models"};
}

std::vector<fs::path> ownFolders(const UserPlaces& user) {
    return {user.home / "models", user.home / "Models"};
}

/// Adding a program is one row here.
constexpr ModelSource kSources[] = {
    {"LM Studio", lmStudioFolders, searchFolder},
    {"Ollama", ollamaFolders, searchOllama},
    {"Hugging Face cache", huggingFaceFolders, searchHuggingFace},
    {"llama.cpp cache", llamaCppFolders, searchFolder},
    {"GPT4All", gpt4AllFolders, searchFolder},
    {"Jan", janFolders, searchFolder},
    {"text-generation-webui", webuiFolders, searchFolder},
    {"Models", ownFolders, searchFolder},
};

} // namespace

std::optional<fs::path> UserPlaces::path(const char* name) const {
    const auto value = variable ? variable(name) : std::nullopt;
    if (!value || value->empty())
        return std::nullopt;
    return value->starts_with("~/") ? home / value->substr(2) : fs::path(*value);
}

fs::path UserPlaces::cache() const {
    return path("XDG_CACHE_HOME").value_or(home / ".cache");
}

fs::path UserPlaces::data() const {
    return path("XDG_DATA_HOME").value_or(home / ".local/share");
}

UserPlaces thisUser() {
    UserPlaces user;
    user.variable = [](const char* name) -> std::optional<std::string> {
        const char* value = std::getenv(name);
        return value ? std::optional<std::string>(value) : std::nullopt;
    };
    user.home = user.path("HOME").value_or("/nonexistent");
    return user;
}

std::span<const ModelSource> modelSources() {
    return kSources;
}

void searchFolder(ModelSearch& search, const fs::path& folder) {
    search.walk(folder);
}

FoundFiles findModels(const UserPlaces& user, const SearchLimits& limits,
                      const Progress& progress) {
    ModelSearch search(limits, progress);
    for (const ModelSource& source : modelSources()) {
        search.setSource(source.name);
        for (const fs::path& folder : source.folders(user))
            source.search(search, folder);
    }
    return search.take();
}

FoundFiles findModelsUnder(const fs::path& folder, const std::string& source,
                           const SearchLimits& limits, const Progress& progress) {
    ModelSearch search(limits, progress);
    search.setSource(source.c_str());
    search.walk(folder);
    return search.take();
}

} // namespace nibble
