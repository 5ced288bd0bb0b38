#include "core/base/atomic_file.h"
#include "core/base/atomic_folder.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/model/names.h"
#include "core/quant/export_fits.h"
#include "core/quant/folder_files.h"
#include "core/quant/folder_groups.h"
#include "core/quant/folder_tensors.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"
#include "core/tokenizer/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

namespace nibble {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// What a tensor is stored as under a recipe that may leave it alone.
const Format* formatOf(const Model& model, const TensorChoice& choice, TensorKey key) {
    return choice.format ? choice.format : model.get(key).format();
}

const char* floatDtype(const Format& format) {
    return format.code == CodeKind::Float32   ? "F32"
           : format.code == CodeKind::Float16 ? "F16"
                                              : "BF16";
}

uint64_t bytesOf(const PackedPart& part) {
    uint64_t bytes =
        part.dtype == std::string_view("I64")                                            ? 8
        : part.dtype == std::string_view("I32") || std::string_view(part.dtype) == "F32" ? 4
        : part.dtype == std::string_view("I8")                                           ? 1
                                                                                         : 2;
    for (const int64_t dim : part.dims)
        bytes *= static_cast<uint64_t>(dim);
    return bytes;
}

/// One tensor of the model (several where the folder keeps them in one), and the file's tensors
/// that it becomes.
struct Item {
    std::vector<TensorKey> keys;
    std::string name; ///< without ".weight" where a packing adds its own
    const PackingWriter* writer = nullptr;
    std::vector<PackedPart> parts;

    uint64_t bytes() const {
        uint64_t sum = 0;
        for (const PackedPart& part : parts)
            sum += bytesOf(part);
        return sum;
    }
    /// Whether what follows is aligned whatever it holds.
    bool keepsAlignment() const {
        return std::ranges::all_of(parts,
                                   [](const PackedPart& part) { return bytesOf(part) % 8 == 0; });
    }
};

class FolderExport {
public:
    FolderExport(const Model& model, const Recipe& recipe, const ExportTarget& target,
                 std::shared_ptr<const Calibration> calibration)
        : m_model(model), m_recipe(recipe), m_target(target),
          m_quantizer(model, recipe, std::move(calibration)),
          m_architecture(findArchitecture(model.config.architecture)) {
        requireMatrices();
        for (const TensorKey key : model.keys())
            if (key.role != Role::RopeFactors && key.role != Role::RopeFactorsLong &&
                key.role != Role::RopeFactorsShort)
                place(key);
        for (Item& item : m_items)
            complete(item);
        if (!m_scheme.format)
            fail(ErrorKind::Usage,
                 "This recipe quantizes no linear layer, so there is nothing for {} to hold; "
                 "choose one of {} for them, or export gguf.",
                 m_target.folder, m_target.fits);
        // The head is a linear layer too, for engines that look at all of them.
        m_scheme.floatModules.push_back("lm_head");
        requireFusable();
        m_config = huggingFaceConfig(model);
        std::ranges::stable_partition(m_items, &Item::keepsAlignment);
    }

    const FolderScheme& scheme() const { return m_scheme; }
    const std::string& config() const { return m_config; }
    bool storesBfloat() const {
        const TensorKey key{Role::TokenEmbedding, -1};
        return formatOf(m_model, m_recipe.choose(m_model, key), key)->code == CodeKind::BFloat16;
    }

    /// Items cut into files of at most `limit` bytes each, where one item alone is not more.
    std::vector<std::span<const Item>> shards(uint64_t limit) const {
        std::vector<std::span<const Item>> found;
        size_t begin = 0;
        uint64_t bytes = 0;
        for (size_t i = 0; i < m_items.size(); ++i) {
            if (i > begin && bytes + m_items[i].bytes() > limit) {
                found.emplace_back(m_items.data() + begin, i - begin);
                begin = i;
                bytes = 0;
            }
            bytes += m_items[i].bytes();
        }
        found.emplace_back(m_items.data() + begin, m_items.size() - begin);
        return found;
    }

    std::vector<Bytes> produce(const Item& item, const Progress& progress) {
        std::vector<Tensor> made;
        for (const TensorKey key : item.keys)
            made.push_back(asInFolder(m_model, key, m_quantizer.tensor(key, progress)));
        const Tensor tensor = joined(made);
        if (item.writer)
            return item.writer->pack(tensor);
        return {tensor.codes};
    }

    ExportReport report() const { return exportReport(m_quantizer); }

private:
    /// What folders do not keep as [outputs][inputs] is packed by few tools.
    void requireMatrices() const {
        const char* what = !m_architecture                       ? nullptr
                           : m_architecture->folderStacksExperts ? "stacks of experts"
                           : m_architecture->folderTransposes && !m_target.turnsMatrices
                               ? "matrices as [inputs][outputs]"
                               : nullptr;
        if (what)
            fail(ErrorKind::Usage,
                 "Folders of the family \"{}\" keep {}, which engines that load {} cannot read "
                 "quantized; export gguf.",
                 m_architecture->name, what, m_target.folder);
    }
    /// Puts a key into the item of its tensor's name.
    void place(TensorKey key) {
        const std::string name = huggingFaceName(m_model, key);
        if (name.empty())
            fail(ErrorKind::Usage, "Folders of the architecture \"{}\" have no tensor \"{}\".",
                 printable(m_model.config.architecture), tensorName(key));
        const auto [at, isNew] = m_names.try_emplace(name, m_items.size());
        if (isNew)
            m_items.push_back({{}, name, nullptr, {}});
        m_items[at->second].keys.push_back(key);
    }
    /// Of all that lie in a folder's tensor.
    std::vector<int64_t> dimsOf(const Item& item) const {
        const TensorKey first = item.keys.front();
        std::vector<int64_t> dims = m_model.get(first).dims;
        for (size_t i = 1; i < item.keys.size(); ++i)
            dims.front() += m_model.get(item.keys[i]).dims.front();
        if (first.role == Role::SharedRouter) // a linear layer of one output
            dims = {1, dims.back()};
        if (first.role == Role::Convolution) // a filter of one channel in for each out
            dims.insert(dims.begin() + 1, 1);
        return dims;
    }
    void complete(Item& item) {
        const TensorKey key = item.keys.front();
        const TensorChoice choice = m_recipe.choose(m_model, key);
        const Format& format = *formatOf(m_model, choice, key);
        for (const TensorKey other : item.keys)
            if (const Format* its = formatOf(m_model, m_recipe.choose(m_model, other), other);
                its != &format)
                refuse(other, *its,
                       fmt::format("it lies in one tensor with \"{}\"", tensorName(key)),
                       format.name);
        // Routers are linear layers, too, that nobody quantizes.
        if (key.role == Role::Router || key.role == Role::SharedRouter)
            m_scheme.floatModules.push_back(stem(item.name));
        if (!isLinearLayer(key) || format.isFloat()) {
            if (!format.isFloat())
                refuse(key, format, "its engines keep embedding and head as floats", "f16");
            if (isLinearLayer(key) && !m_target.keepsFloats)
                refuse(key, format, "all its linear layers are quantized", m_target.fits);
            if (isLinearLayer(key))
                m_scheme.floatModules.push_back(stem(item.name));
            item.parts.push_back({"", floatDtype(format), dimsOf(item)});
        } else {
            addQuantized(item, choice, format);
        }
    }
    void addQuantized(Item& item, const TensorChoice& choice, const Format& format) {
        const TensorKey key = item.keys.front();
        const TensorInfo& info = m_model.get(key);
        if (choice.format && choice.method && choice.method->keepsOutliers())
            refuse(
                key, format,
                fmt::format("it has no place for the outlier columns of {}", choice.method->title),
                "the method rtn");
        TensorChoice actual = choice;
        actual.format = &format;
        item.writer = &m_target.writerOf(actual);
        item.name = stem(item.name);
        // Only what the base already has can have an order of columns.
        const bool ordered =
            info.packed && info.format() == &format && m_model.load(key).columnOrder;
        m_scheme.ordered = m_scheme.ordered || ordered;
        const int64_t rows = dimsOf(item).front();
        const std::string why = item.writer->refuses(format, rows, info.cols(), ordered);
        if (!why.empty())
            refuse(key, format, why, m_target.fits);
        if (!m_scheme.format) {
            m_scheme.format = &format;
            m_scheme.writer = item.writer;
        }
        if (m_scheme.writer != item.writer || m_scheme.format != &format)
            refuse(key, format,
                   fmt::format("its engines want all linear layers alike, and others are {}",
                               m_scheme.format->name),
                   m_scheme.format->name);
        item.parts = item.writer->parts(format, rows, info.cols(), ordered);
    }
    [[noreturn]] void refuse(TensorKey key, const Format& format, std::string_view why,
                             std::string_view fits) const {
        fail(ErrorKind::Usage,
             "Tensor \"{}\" is {} in this recipe, which a folder in {} form cannot hold: {}. "
             "Choose {} for it.",
             tensorName(key), format.name, m_target.title, why, fits);
    }
    static std::string stem(const std::string& name) {
        return name.substr(0, name.size() - std::string_view(".weight").size());
    }
    /// Engines multiply q, k and v as one matrix, and gate and up.
    void requireFusable() const {
        std::map<TensorKey, bool> isPacked;
        for (const Item& item : m_items)
            isPacked[item.keys.front()] = item.writer != nullptr;
        for (const auto& [key, packed] : isPacked) {
            const Role first = key.role == Role::Key || key.role == Role::Value ? Role::Query
                               : key.role == Role::Up                           ? Role::Gate
                                                                                : key.role;
            if (const auto at = isPacked.find({first, key.layer});
                at != isPacked.end() && at->second != packed)
                fail(ErrorKind::Usage,
                     "Of \"{}\" and \"{}\" this recipe quantizes only one, but engines that load "
                     "{} folders multiply them as one matrix. Choose the same format for both.",
                     tensorName({first, key.layer}), tensorName(key), m_target.title);
        }
    }

    const Model& m_model;
    const Recipe& m_recipe;
    const ExportTarget& m_target;
    Quantizer m_quantizer;
    const Architecture* m_architecture;
    std::map<std::string, size_t> m_names; ///< items by what folders call their tensors
    FolderScheme m_scheme;
    std::string m_config; ///< config.json without the quantizer's part
    std::vector<Item> m_items;
};

/// Tokenizer and settings: a folder's own files, else made from the vocabulary.
void writeTokenizer(const Model& model, const fs::path& folder) {
    const Checkpoint& base = *model.checkpoint;
    if (base.container == Checkpoint::Container::Safetensors) {
        std::error_code ignored;
        const fs::path from =
            fs::is_directory(base.path, ignored) ? base.path : base.path.parent_path();
        for (const char* name : sideFiles())
            if (fs::exists(from / name, ignored))
                writeFileAtomically(folder / name, readTextFile(from / name, limits::kJsonBytes));
        return;
    }
    if (!model.tokenizer)
        return;
    for (const auto& [name, text] :
         tokenizerFiles(*model.tokenizer, model.chatTemplate, model.config.contextLength))
        writeFileAtomically(folder / name, text);
}

void writeConfig(const FolderExport& out, const ExportTarget& target, const fs::path& folder) {
    Json config = Json::parse(out.config());
    const char* dtype = out.storesBfloat() ? "bfloat16" : "float16";
    config[config.contains("dtype") ? "dtype" : "torch_dtype"] = dtype;
    const Json quantizer = target.config(out.scheme());
    config["quantization_config"] = quantizer;
    writeFileAtomically(folder / "config.json", config.dump(2) + "\n");
    if (target.configFile)
        writeFileAtomically(folder / target.configFile, quantizer.dump(2) + "\n");
}

/// Writes the weights and, of several files, the index that says where each is.
class WeightWriter {
public:
    WeightWriter(FolderExport& out, fs::path folder, std::string receipt, const Progress& progress)
        : m_out(out), m_folder(std::move(folder)), m_metadata{{"format", "pt"},
                                                              {kReceiptKey, std::move(receipt)}},
          m_progress(progress) {}

    void write(uint64_t shardBytes) {
        const auto shards = m_out.shards(shardBytes);
        for (const auto& shard : shards)
            m_total += static_cast<double>(shard.size());
        for (size_t i = 0; i < shards.size(); ++i)
            writeShard(shards[i],
                       shards.size() == 1
                           ? "model.safetensors"
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
        if (shards.size() > 1)
            writeFileAtomically(
                m_folder / "model.safetensors.index.json",
                Json{{"metadata", {{"total_size", m_bytes}}}, {"weight_map", m_files}}.dump(2) +
                    "\n");
        m_progress.report(m_total, m_total, "");
    }

private:
    void writeShard(std::span<const Item> items, const std::string& file) {
        struct Place {
            const Item* item;
            size_t part;
        };
        std::vector<SafetensorsTensor> tensors;
        std::vector<Place> places;
        for (const Item& item : items)
            for (size_t part = 0; part < item.parts.size(); ++part) {
                const PackedPart& stored = item.parts[part];
                tensors.push_back(
                    {item.name + stored.suffix, stored.dtype, stored.dims, bytesOf(stored)});
                places.push_back({&item, part});
                m_files[tensors.back().name] = file;
                m_bytes += tensors.back().bytes;
            }
        Progress silent = m_progress;
        silent.onReport = nullptr;
        std::vector<Bytes> made;
        writeSafetensors(m_folder / file, m_metadata, tensors, [&](size_t index) {
            const auto [item, part] = places[index];
            m_progress.check();
            if (part == 0) {
                m_progress.report(m_done++, m_total, item->name);
                made = m_out.produce(*item, silent);
            }
            return std::move(made[part]);
        });
    }

    FolderExport& m_out;
    fs::path m_folder;
    std::map<std::string, std::string> m_metadata;
    const Progress& m_progress;
    std::map<std::string, std::string> m_files;
    uint64_t m_bytes = 0;
    double m_done = 0, m_total = 0;
};

} // namespace

Recipe folderRecipe(Recipe recipe) {
    for (const Role role : {Role::TokenEmbedding, Role::Output})
        recipe.set({role, -1}, {.match = "", .format = "f16"});
    return recipe;
}

void checkFolder(const Model& model, const Recipe& recipe, const ExportTarget& target) {
    const FolderGroups grouped = withOneGroup(model, recipe, target);
    const FolderExport fits(model, grouped.recipe, target, nullptr);
}

void requireFolderFits(const Model& model, const Recipe& recipe, std::string_view kind) {
    requireFits(model, recipe, getExportTarget(kind).name);
}

ExportReport exportFolder(const Model& model, const Recipe& recipe, std::string_view kind,
                          const fs::path& path, const Progress& progress,
                          std::shared_ptr<const Calibration> calibration, const ExportNotes& notes,
                          uint64_t shardBytes) {
    const ExportTarget& target = getExportTarget(kind);
    model.requireRunnable();
    std::error_code ignored;
    if (fs::equivalent(path, model.checkpoint->path, ignored) ||
        fs::equivalent(path, model.checkpoint->path.parent_path(), ignored))
        fail(ErrorKind::Usage,
             "\"{}\" is the base's own folder, which is never overwritten; choose another name.",
             printable(path.filename().string()));
    FolderGroups grouped;
    std::optional<FolderExport> checked;
    namingLevels(model, kind, [&] {
        grouped = withOneGroup(model, recipe, target);
        checked.emplace(model, grouped.recipe, target, calibration);
    });
    FolderExport& out = *checked;
    const std::string receipt =
        receiptJson(model, grouped.recipe, target.name, calibration.get(), notes);
    AtomicFolder folder(path, kFolderReceipt, exportedFiles);
    WeightWriter(out, folder.temporary(), receipt, progress).write(shardBytes);
    writeTokenizer(model, folder.temporary());
    writeConfig(out, target, folder.temporary());
    writeFileAtomically(folder.temporary() / kFolderReceipt,
                        receiptWithFiles(receiptText(receipt, out.report()), folder.temporary()));
    folder.commit();
    return out.report();
}

} // namespace nibble
