#include "core/quant/folder_files.h"

#include "core/base/leftovers.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/quant/receipt.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <set>

namespace nibble {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFilesKey = "files";
constexpr const char* kSideFiles[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "tokenizer.model",
                                      "vocab.json",
                                      "merges.txt",
                                      "added_tokens.json",
                                      "chat_template.jinja",
                                      "generation_config.json"};
constexpr const char* kOtherFiles[] = {"config.json", "model.safetensors",
                                       "model.safetensors.index.json", "quantize_config.json",
                                       "quant_config.json"};

/// "model-00001-of-00002.safetensors"; other safetensors files, such as adapters, are not ours.
bool isShard(std::string_view name) {
    std::string form(name);
    for (char& c : form)
        if (c >= '0' && c <= '9')
            c = '0';
    return form == "model-00000-of-00000.safetensors";
}

bool isUsualName(std::string_view name) {
    const auto among = [&](const auto& names) {
        return std::find(std::begin(names), std::end(names), name) != std::end(names);
    };
    return name == kFolderReceipt || among(kSideFiles) || among(kOtherFiles) || isShard(name);
}

/// What the receipt lists, where it does.
std::optional<std::set<std::string>> listedFiles(const fs::path& folder) {
    try {
        const Json receipt = Json::parse(readTextFile(folder / kFolderReceipt, limits::kJsonBytes));
        if (receipt.is_object() && receipt.contains(kFilesKey))
            return receipt[kFilesKey].get<std::set<std::string>>();
    } catch (const std::exception&) {
        // Without a receipt that can be read, names have to do.
    }
    return {};
}

std::vector<std::string> namesIn(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code ignored;
    for (fs::directory_iterator at(folder, ignored), end; at != end; at.increment(ignored))
        names.push_back(at->path().filename().string());
    std::ranges::sort(names);
    return names;
}

} // namespace

std::span<const char* const> sideFiles() {
    return kSideFiles;
}

std::string receiptWithFiles(const std::string& receipt, const fs::path& folder) {
    Json out = Json::parse(receipt);
    std::vector<std::string> names = namesIn(folder);
    names.emplace_back(kFolderReceipt);
    out[kFilesKey] = names;
    return out.dump(2) + "\n";
}

std::vector<std::string> exportedFiles(const fs::path& folder) {
    const auto listed = listedFiles(folder);
    const auto isOurs = [&](std::string_view name) {
        return listed ? listed->contains(std::string(name)) : isUsualName(name);
    };
    std::vector<std::string> names = namesIn(folder);
    std::erase_if(names, [&](const std::string& name) {
        const size_t part = name.rfind(".part-");
        const bool unfinished = part != std::string::npos &&
                                isPartOf(name, std::string_view(name).substr(0, part)) &&
                                isOurs(std::string_view(name).substr(0, part));
        return !isOurs(name) && !unfinished;
    });
    return names;
}

} // namespace nibble
