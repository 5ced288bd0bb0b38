#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/json_text.h"
#include "core/files/model_search.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

namespace nibble {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kManifestBytes = 1 << 20;
constexpr int kManifestDepth = 16;

/// manifests/HOST/NAMESPACE/MODEL/TAG as Ollama names it: "llama3.2:3b", "person/model:tag",
/// "hf.co/org/model:Q4_K_M".
std::string nameOf(const fs::path& manifest, const fs::path& manifests) {
    std::vector<std::string> parts;
    for (const fs::path& part : manifest.lexically_relative(manifests))
        parts.push_back(part.string());
    if (parts.size() < 2)
        return manifest.filename().string();
    const std::string tag = parts.back();
    parts.pop_back();
    if (parts.size() > 1 && parts.front() == "registry.ollama.ai")
        parts.erase(parts.begin());
    if (parts.size() > 1 && parts.front() == "library")
        parts.erase(parts.begin());
    return fmt::format("{}:{}", fmt::join(parts, "/"), tag);
}

/// The blob's file name, or nothing for what is no digest: a manifest must not lead anywhere else.
std::optional<std::string> blobName(const std::string& digest) {
    constexpr std::string_view kPrefix = "sha256:";
    const std::string hex = digest.starts_with(kPrefix) ? digest.substr(kPrefix.size()) : "";
    const bool isHex = std::ranges::all_of(hex, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    });
    return hex.size() == 64 && isHex ? std::optional("sha256-" + hex) : std::nullopt;
}

struct Layers {
    std::string model, problem;
    bool projects = false;
};

Layers readManifest(const fs::path& file) {
    const std::string name = printable(file.filename().string());
    const auto json = parseJson(readTextFile(file, kManifestBytes), file.string(), kManifestDepth,
                                "Pull the model again.");
    Layers found;
    if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array()) {
        found.problem = "Its manifest has no list \"layers\". Pull the model again.";
        return found;
    }
    for (const auto& layer : json["layers"]) {
        if (!layer.is_object() || !layer.contains("mediaType") || !layer["mediaType"].is_string() ||
            !layer.contains("digest") || !layer["digest"].is_string())
            continue;
        const auto& type = layer["mediaType"].get_ref<const std::string&>();
        if (type == "application/vnd.ollama.image.model" && found.model.empty())
            found.model = layer["digest"].get<std::string>();
    }
    if (found.model.empty())
        found.problem = "Its manifest names no model file. Pull the model again.";
    return found;
}

void addModel(ModelSearch& search, const fs::path& folder, const fs::path& manifest,
              std::map<fs::path, FoundFile>& byBlob) {
    FoundFile found;
    found.name = nameOf(manifest, folder / "manifests");
    found.path = manifest;
    try {
        const Layers layers = readManifest(manifest);
        found.problem = layers.problem;
        if (found.problem.empty()) {
            const auto blob = blobName(layers.model);
            const fs::path path = folder / "blobs" / blob.value_or("");
            std::error_code error;
            if (!blob)
                found.problem = fmt::format("Its manifest names the blob \"{}\"; \"sha256:\" and "
                                            "64 digits are expected. Pull the model again.",
                                            printable(layers.model));
            else if (!fs::is_regular_file(path, error))
                found.problem = fmt::format("Its manifest names the blob {}, which is not there. "
                                            "Pull the model again.",
                                            blob->substr(0, 19));
            else
                found.path = path;
            if (found.problem.empty())
                found.bytes = fs::file_size(path, error);
        }
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::Cancelled)
            throw;
        found.problem = error.what();
    }
    if (!found.problem.empty()) {
        search.add(std::move(found));
        return;
    }
    // Two tags of one blob are one model with two names.
    const auto [at, fresh] = byBlob.try_emplace(found.path, found);
    if (!fresh)
        at->second.name += ", " + found.name;
}

void collect(ModelSearch& search, const fs::path& folder, const fs::path& at, int depth,
             std::map<fs::path, FoundFile>& byBlob) {
    constexpr int kDeepest = 6; // host, namespaces, model, tag
    for (const fs::path& path : search.entries(at)) {
        if (search.isOver())
            return;
        std::error_code ignored;
        if (path.filename().string().starts_with('.'))
            continue;
        if (fs::is_directory(path, ignored)) {
            if (depth + 1 < kDeepest)
                collect(search, folder, path, depth + 1, byBlob);
        } else if (fs::is_regular_file(path, ignored)) {
            addModel(search, folder, path, byBlob);
        }
    }
}

} // namespace

std::vector<fs::path> ollamaFolders(const UserPlaces& user) {
    std::vector<fs::path> folders;
    if (const auto own = user.path("OLLAMA_MODELS"))
        folders.push_back(*own);
    folders.push_back(user.home / ".ollama/models");
    folders.push_back(user.root / "usr/share/ollama/.ollama/models");
    folders.push_back(user.root / "var/lib/ollama/.ollama/models");
    folders.push_back(user.root / "var/lib/ollama/models");
    folders.push_back(user.root / "var/lib/ollama");
    return folders;
}

void searchOllama(ModelSearch& search, const fs::path& folder) {
    std::error_code ignored;
    const fs::path manifests = folder / "manifests";
    if (!fs::is_directory(manifests, ignored))
        return;
    std::map<fs::path, FoundFile> byBlob;
    collect(search, folder, manifests, 0, byBlob);
    std::vector<FoundFile> models;
    for (auto& [blob, model] : byBlob)
        models.push_back(std::move(model));
    std::ranges::sort(models, {}, &FoundFile::name);
    for (FoundFile& model : models)
        search.add(std::move(model));
}

} // namespace nibble
