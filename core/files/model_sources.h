#pragma once

#include "core/base/progress.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// Models that other programs have put on this computer. They are found where they lie: nothing is
/// copied, and nothing is written there.
namespace nibble {

/// One model as its program keeps it.
struct FoundFile {
    std::string name;   ///< as people know it: "llama3.2:3b", "org/model", "Model-Q4_K_M"
    std::string source; ///< ModelSource::name
    std::filesystem::path
        path;           ///< what openModel() takes: a GGUF file (its first part) or a folder
    uint64_t bytes = 0; ///< of all its parts
    int parts = 1;
    /// Told by names and places alone; kindOf() looks into the file.
    enum class Kind { Model, Projector, Adapter } kind = Kind::Model;
    std::string problem; ///< a sentence when it is not whole, else empty
};

struct FoundFiles {
    std::vector<FoundFile> models;  ///< by source, then in the order of their paths
    std::vector<std::string> notes; ///< sentences: what could not be read, or where it stopped
};

/// The user's place in the system; tests give one of their own.
struct UserPlaces {
    std::filesystem::path home, root = "/";
    std::function<std::optional<std::string>(const char* variable)> variable;

    /// The value of a variable as a path, or nothing where it is unset or empty.
    std::optional<std::filesystem::path> path(const char* name) const;
    /// $XDG_CACHE_HOME, else ~/.cache; and the same for data.
    std::filesystem::path cache() const, data() const;
};
UserPlaces thisUser();

/// So that no tree of folders, however made, keeps a search from ending.
struct SearchLimits {
    int depth = 8;
    size_t entries = 200'000; ///< folders' entries looked at
    size_t models = 2'000;
    std::chrono::milliseconds time{20'000};
};

class ModelSearch;

/// A program that keeps models: one row of modelSources().
struct ModelSource {
    const char* name;
    /// Where it keeps them, most wanted first; those that are not there are left out later.
    std::vector<std::filesystem::path> (*folders)(const UserPlaces& user);
    /// Adds what one of these folders holds.
    void (*search)(ModelSearch& search, const std::filesystem::path& folder);
};
std::span<const ModelSource> modelSources();

/// Everything that the sources have, each file once (links and hard links are followed to it).
/// Error{Cancelled} through `progress`; nothing else is thrown.
FoundFiles findModels(const UserPlaces& user = thisUser(), const SearchLimits& limits = {},
                      const Progress& progress = {});
/// Everything under one folder, as of a source of this name.
FoundFiles findModelsUnder(const std::filesystem::path& folder, const std::string& source = "",
                           const SearchLimits& limits = {}, const Progress& progress = {});

} // namespace nibble
