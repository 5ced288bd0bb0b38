#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/file_kind.h"
#include "core/files/json_text.h"
#include "core/files/names.h"
#include "core/files/openers.h"
#include "core/files/packings.h"

#include <algorithm>
#include <set>

namespace nibble {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool present(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

/// Older quantizers left their configuration in a file of its own.
void addQuantizerConfig(Checkpoint& checkpoint, const fs::path& folder) {
    constexpr std::pair<const char*, const char*> kFiles[] = {{"quantize_config.json", "gptq"},
                                                              {"quant_config.json", "awq"}};
    Metadata& metadata = checkpoint.metadata;
    const std::string method = std::string(kQuantizerConfig) + "quant_method";
    for (const auto& [file, implied] : kFiles) {
        if (metadata.has(method) || !present(folder / file))
            continue;
        putJson(metadata,
                std::string(kQuantizerConfig, std::string_view(kQuantizerConfig).size() - 1),
                readJson((folder / file).string(), limits::kJsonDepth));
        if (!metadata.has(method))
            metadata.entries[method].value = std::string(implied);
    }
}

void addConfig(Checkpoint& checkpoint, const fs::path& folder) {
    const fs::path config = folder / "config.json";
    checkpoint.metadata.source = config.filename().string();
    if (present(config))
        putJson(checkpoint.metadata, "", readJson(config.string(), limits::kJsonDepth));
    addQuantizerConfig(checkpoint, folder);
    checkpoint.tokenizerFile = findTokenizerFile(folder);
}

void addFile(Checkpoint& checkpoint, const fs::path& path) {
    const Bytes file = mapFile(path);
    checkpoint.fileBytes += file.size();
    SafetensorsContents contents = readSafetensors(path, file);
    for (TensorInfo& info : contents.tensors)
        addTensor(checkpoint, std::move(info), path);
    for (const auto& [alias, name] : contents.metadata)
        if (const auto at = checkpoint.byName.find(name); at != checkpoint.byName.end())
            checkpoint.byName.emplace(alias, at->second);
}

/// Every shard that model.safetensors.index.json names, once, and every tensor where it says.
void addShards(Checkpoint& checkpoint, const fs::path& folder) {
    const Json index = readJson((folder / kIndex).string(), limits::kJsonDepth);
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (map == index.end() || !map->is_object() || map->size() > limits::kTensors)
        fail(ErrorKind::BadInput,
             "{}: \"weight_map\" is missing or not an object of at most {} entries. Download the "
             "file "
             "again.",
             kIndex, limits::kTensors);
    std::map<std::string, std::set<std::string>> files;
    for (const auto& [tensor, file] : map->items()) {
        if (!file.is_string() || !isPlainFileName(file.get_ref<const std::string&>()))
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" is said to be in {}; a plain file name in the same folder is "
                 "expected. The "
                 "file is damaged or hostile.",
                 kIndex, printable(tensor), printable(file.dump()));
        files[file.get<std::string>()].insert(tensor);
    }
    if (files.size() > limits::kShards)
        fail(ErrorKind::BadInput, "{}: it names {} files; at most {} are accepted.", kIndex,
             files.size(), limits::kShards);
    for (const auto& [file, names] : files) {
        if (!present(folder / file))
            fail(ErrorKind::BadInput, "{} of {} files: {} is missing in the folder. Download it.",
                 kIndex, files.size(), printable(file));
        const size_t before = checkpoint.tensors.size();
        addFile(checkpoint, folder / file);
        for (const std::string& name : names)
            if (const auto at = checkpoint.byName.find(name);
                at == checkpoint.byName.end() || at->second < before)
                fail(ErrorKind::BadInput,
                     "{}: tensor \"{}\" is not in {}, where it is said to be. Download the files "
                     "again.",
                     kIndex, printable(name), printable(file));
    }
}

std::vector<fs::path> filesWith(const fs::path& folder, const std::string& extension) {
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        if (it->path().extension() == extension)
            found.push_back(it->path());
    std::sort(found.begin(), found.end());
    return found;
}

std::string listed(const std::vector<fs::path>& files) {
    std::string text;
    for (size_t i = 0; i < files.size() && i < 8; ++i)
        text += (i == 0 ? "" : ", ") + printable(files[i].filename().string());
    return files.size() > 8 ? text + fmt::format(" and {} more", files.size() - 8) : text;
}

[[noreturn]] void refuseFolder(const fs::path& folder) {
    const std::string name = printable(folder.string(), 400);
    if (const auto ggufs = filesWith(folder, ".gguf"); !ggufs.empty())
        fail(ErrorKind::BadInput,
             "{}: the folder has GGUF files and no safetensors: {}. Choose one of the files.", name,
             listed(ggufs));
    for (const char* extension : {".bin", ".pt", ".pth", ".ckpt"})
        if (const auto pickles = filesWith(folder, extension); !pickles.empty())
            refuseForeign(pickles.front(), {});
    fail(ErrorKind::BadInput,
         "{}: the folder has no *.safetensors. Choose a folder with config.json and *.safetensors, "
         "or a GGUF "
         "file.",
         name);
}

std::shared_ptr<Checkpoint> makeCheckpoint(const fs::path& path) {
    auto checkpoint = std::make_shared<Checkpoint>();
    checkpoint->container = Checkpoint::Container::Safetensors;
    checkpoint->path = path;
    return checkpoint;
}

} // namespace

fs::path findTokenizerFile(const fs::path& folder) {
    // A vocabulary is of no use without its merges.
    constexpr std::pair<const char*, const char*> kFiles[] = {{"tokenizer.json", nullptr},
                                                              {"tokenizer.model", nullptr},
                                                              {"vocab.json", "merges.txt"},
                                                              {"encoder.json", "vocab.bpe"}};
    for (const auto& [file, beside] : kFiles)
        if (present(folder / file) && (!beside || present(folder / beside)))
            return folder / file;
    return {};
}

CheckpointPointer openSafetensorsFolder(const fs::path& folder) {
    const auto checkpoint = makeCheckpoint(folder);
    const auto files = filesWith(folder, ".safetensors");
    // A folder with a tokenizer alone serves for tokenizing, like a GGUF file with no tensors.
    const bool tokenizerOnly = files.empty() && !findTokenizerFile(folder).empty() &&
                               filesWith(folder, ".gguf").empty() &&
                               filesWith(folder, ".bin").empty();
    if (files.empty() && !tokenizerOnly && !present(folder / kIndex))
        refuseFolder(folder);
    addConfig(*checkpoint, folder);
    if (present(folder / kSingle))
        addFile(*checkpoint, folder / kSingle);
    else if (present(folder / kIndex))
        addShards(*checkpoint, folder);
    else if (files.size() == 1)
        addFile(*checkpoint, files.front());
    else if (!tokenizerOnly)
        fail(ErrorKind::BadInput,
             "{}: there are {} safetensors files ({}) and no {} that says how they belong "
             "together. Add it, or "
             "choose one of the files.",
             printable(folder.string(), 400), files.size(), listed(files), kIndex);
    if (!present(folder / "config.json") && present(folder / "adapter_config.json"))
        fail(ErrorKind::BadInput, "{}: {}", printable(folder.string(), 400),
             whyNotRunnable(FileKind::Adapter));
    if (!tokenizerOnly && !present(folder / "config.json"))
        fail(ErrorKind::BadInput,
             "{}: config.json is missing beside the weights; it says what model they are. Download "
             "it.",
             printable(folder.string(), 400));
    unpackWeights(*checkpoint);
    return checkpoint;
}

CheckpointPointer openSafetensorsFile(const fs::path& path) {
    const fs::path folder = path.parent_path();
    if (path.filename().string().find("-of-") != std::string::npos && present(folder / kIndex))
        return openSafetensorsFolder(folder);
    const auto checkpoint = makeCheckpoint(path);
    addConfig(*checkpoint, folder);
    addFile(*checkpoint, path);
    unpackWeights(*checkpoint);
    return checkpoint;
}

} // namespace nibble
