#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/files/gguf_format.h"
#include "core/model/names.h"
#include "core/quant/export_fits.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

namespace nibble {
namespace {

/// llama.cpp's numbers for a file's main type (general.file_type).
struct FileType {
    const char* format;
    int64_t number;
};
constexpr FileType kFileTypes[] = {
    {"f32", 0},      {"f16", 1},     {"q4_0", 2},     {"q4_1", 3},   {"q8_0", 7},    {"q5_0", 8},
    {"q5_1", 9},     {"q2_k", 10},   {"q3_k", 12},    {"q4_k", 15},  {"q5_k", 17},   {"q6_k", 18},
    {"iq2_xxs", 19}, {"iq2_xs", 20}, {"iq3_xxs", 23}, {"iq1_s", 24}, {"iq4_nl", 25}, {"iq3_s", 26},
    {"iq2_s", 28},   {"iq4_xs", 30}, {"iq1_m", 31},   {"bf16", 32},  {"tq1_0", 36},  {"tq2_0", 37},
    {"mxfp4", 38},   {"nvfp4", 39},
};

void putInteger(Metadata& metadata, const std::string& key, int64_t value) {
    metadata.entries[key] = {.value = value, .storedType = gguf::kU32};
}
void putText(Metadata& metadata, const std::string& key, std::string value) {
    metadata.entries[key] = {.value = std::move(value), .storedType = gguf::kString};
}

/// Whether rows of q and k must be reordered on the way: folders keep the halves that rotate
/// together apart, GGUF files of some families want them as neighbours.
bool reordersHeads(const Model& model) {
    const Architecture* architecture = findArchitecture(model.config.architecture);
    return model.checkpoint->container == Checkpoint::Container::Safetensors && architecture &&
           architecture->ggufRope == RopeStyle::Interleaved;
}

/// The metadata of a folder's model as a GGUF file states it.
Metadata describeFolder(const Model& model) {
    Metadata m;
    m.source = model.checkpoint->metadata.source;
    putGgufConfig(model, m);
    if (model.tokenizer)
        model.tokenizer->putInto(m);
    else
        putText(m, "tokenizer.ggml.model", "no_vocab"); // what llama.cpp asks for then
    if (!model.chatTemplate.empty())
        putText(m, "tokenizer.chat_template", model.chatTemplate);
    return m;
}

/// The name of a model without the levels that earlier exports put behind it.
std::string withoutLevel(const Model& model) {
    std::vector<std::string> names{"mixed"};
    for (const Level& level : levels())
        names.emplace_back(level.name);
    const auto receipt =
        nlohmann::json::parse(model.checkpoint->metadata.stringOr(kReceiptKey, ""), nullptr, false);
    const nlohmann::json::json_pointer where("/recipe/name");
    if (receipt.is_object() && receipt.contains(where) && receipt[where].is_string())
        names.push_back(receipt[where].get<std::string>());
    std::string name = model.name;
    const auto endsWithLevel = [&](const std::string& level) {
        return !level.empty() && name.ends_with(" " + level);
    };
    for (auto at = names.begin(); at != names.end();) {
        at = std::find_if(names.begin(), names.end(), endsWithLevel);
        if (at != names.end())
            name.resize(name.size() - at->size() - 1);
    }
    return name;
}

/// Stored rows of q or k (or the values of their biases) brought from halves to neighbours.
Bytes reordered(const Bytes& rows, int64_t rowCount, int32_t heads) {
    const size_t rowBytes = rows.size() / static_cast<size_t>(rowCount);
    const int64_t headRows = rowCount / heads, half = headRows / 2;
    std::vector<std::byte> out(rows.size());
    for (int64_t head = 0; head < heads; ++head)
        for (int64_t i = 0; i < headRows; ++i) {
            const int64_t from = head * headRows + i;
            const int64_t to = head * headRows + (i < half ? 2 * i : 2 * (i - half) + 1);
            std::memcpy(out.data() + static_cast<size_t>(to) * rowBytes,
                        rows.data() + static_cast<size_t>(from) * rowBytes, rowBytes);
        }
    return Bytes::of(std::move(out));
}

/// One tensor of the file: made by the recipe (several keys where they lie in one tensor), copied,
/// or values that only the config has.
struct Entry {
    std::string name;
    std::vector<TensorKey> keys;
    const TensorInfo* source = nullptr; ///< what is copied, and where the values come from
    bool joined = false;                ///< every key has a stored tensor of its own
    std::vector<float> values = {};
};

class Export {
public:
    Export(const Model& model, const Recipe& recipe, std::shared_ptr<const Calibration> calibration)
        : m_model(model), m_recipe(recipe), m_quantizer(model, recipe, std::move(calibration)) {
        if (model.checkpoint->container != Checkpoint::Container::Safetensors)
            for (const TensorInfo& info : model.checkpoint->tensors) {
                const auto keys = model.keysOf(info.name);
                if (keys.size() == 1 && keys.front().expert >= 0 && model.config.experts > 1)
                    addStacked(info, keys.front());
                else if (info.owner.empty() || isKept(model.keysOf(info.owner)))
                    add({info.name, {keys.begin(), keys.end()}, &info});
            }
        else
            for (const TensorKey key : model.keys())
                if (const auto group = model.storedWith(key); group.front() == key)
                    add({ggufName(model, key), {group.begin(), group.end()}, &model.get(key)});
        for (auto& [name, values] : ggufRopeFactors(model))
            add({std::move(name), {}, nullptr, false, std::move(values)});
    }

    ExportReport report() const { return exportReport(m_quantizer); }
    std::span<const GgufTensor> tensors() const { return m_tensors; }

    Metadata metadata() const {
        const bool folder = m_model.checkpoint->container == Checkpoint::Container::Safetensors;
        Metadata m = folder ? describeFolder(m_model) : m_model.checkpoint->metadata;
        putText(m, "general.name",
                withoutLevel(m_model) + (m_recipe.name.empty() ? "" : " " + m_recipe.name));
        putInteger(m, "general.quantization_version", 2);
        putInteger(m, "general.file_type", fileType());
        // The written file is whole, whatever the base was.
        for (const char* key : {"split.no", "split.count", "split.tensors.count"})
            m.entries.erase(key);
        return m;
    }

    Bytes produce(size_t index, const PutBytes& put, const Progress& progress) {
        const Entry& entry = m_entries[index];
        // The file passes through memory tensor by tensor: the next is read while this one is made.
        if (index > 0 && m_entries[index - 1].source)
            releasePages(m_entries[index - 1].source->bytes.view());
        if (index + 1 < m_entries.size() && m_entries[index + 1].source)
            prefetchPages(m_entries[index + 1].source->bytes.view());
        if (!entry.source)
            return Bytes::of(entry.values);
        const bool isGguf = m_model.checkpoint->container == Checkpoint::Container::Gguf;
        const bool kept = isGguf && isKept(entry.keys);
        if (kept && entry.joined)
            return join(entry.keys, put);
        if (entry.keys.empty() || kept)
            return entry.source->bytes;
        uint64_t offset = 0;
        for (const TensorKey key : entry.keys) {
            progress.check();
            const uint64_t bytes = bytesOf(key, *m_tensors[index].type);
            if (reordersHeads(m_model) || !putInParts(key, index, offset, put, progress)) {
                const Bytes made = stored(key, *m_tensors[index].type, progress);
                if (entry.keys.size() == 1)
                    return made;
                put(offset, made.view());
            }
            offset += bytes;
        }
        return {};
    }

private:
    uint64_t bytesOf(TensorKey key, const BlockType& type) const {
        const TensorInfo& info = m_model.get(key);
        const uint64_t rowBlocks =
            (static_cast<uint64_t>(info.cols()) + type.blockValues - 1) / type.blockValues;
        return rowBlocks * type.blockBytes * static_cast<uint64_t>(info.rows());
    }
    Bytes stored(TensorKey key, const BlockType& type, const Progress& progress) {
        const Tensor tensor = m_quantizer.tensor(key, progress);
        Bytes bytes = toStoredBytes(tensor, type);
        if (!reordersHeads(m_model))
            return bytes;
        const ModelConfig& c = m_model.config;
        switch (key.role) {
        case Role::Query:
            return reordered(bytes, tensor.rows, c.heads);
        case Role::QueryBias:
            return reordered(bytes, tensor.cols, c.heads);
        case Role::Key:
            return reordered(bytes, tensor.rows, c.kvHeads);
        case Role::KeyBias:
            return reordered(bytes, tensor.cols, c.kvHeads);
        default:
            return bytes;
        }
    }
    Bytes join(std::span<const TensorKey> keys, const PutBytes& put) const {
        uint64_t offset = 0;
        for (const TensorKey key : keys) {
            const Bytes& bytes = m_model.get(key).bytes;
            put(offset, bytes.view());
            offset += bytes.size();
            releasePages(bytes.view());
        }
        return {};
    }
    /// Writes rows as soon as they are made; false where that cannot be.
    bool putInParts(TensorKey key, size_t index, uint64_t offset, const PutBytes& put,
                    const Progress& progress) {
        const GgufTensor& out = m_tensors[index];
        const uint64_t rowBytes =
            bytesOf(key, *out.type) / static_cast<uint64_t>(m_model.get(key).rows());
        return m_quantizer.tensorInParts(
            key,
            [&](int64_t firstRow, const Tensor& part) {
                put(offset + static_cast<uint64_t>(firstRow) * rowBytes,
                    toStoredBytes(part, *out.type).view());
            },
            progress);
    }
    /// Whether a tensor goes into the file as the base stores it. What the base runs as is not
    /// always what a file can hold (see TensorInfo::format).
    bool isKept(std::span<const TensorKey> keys) const {
        return std::ranges::all_of(keys, [&](TensorKey key) {
            const Format* format = m_recipe.choose(m_model, key).format;
            return !format || (format == m_model.get(key).format() && !blockTypeHolding(*format));
        });
    }
    /// Parts that lie behind each other: [experts][rows][cols], or all rows (of vectors all values)
    /// in one.
    std::vector<int64_t> dimsOf(const Entry& entry) const {
        std::vector<int64_t> dims = m_model.get(entry.keys.front()).dims;
        if (entry.keys.front().expert >= 0)
            dims.insert(dims.begin(), static_cast<int64_t>(entry.keys.size()));
        else
            for (size_t i = 1; i < entry.keys.size(); ++i)
                dims.front() += m_model.get(entry.keys[i]).dims.front();
        return dims;
    }
    /// Experts that files from before experts were stacked keep apart: engines of today want one
    /// tensor.
    void addStacked(const TensorInfo& info, TensorKey key) {
        const auto all = m_model.storedWith(key);
        if (all.front() == key)
            add({ggufName(m_model, key), {all.begin(), all.end()}, &info, true});
    }
    void add(Entry entry) {
        if (!entry.source) {
            const auto count = static_cast<int64_t>(entry.values.size());
            m_tensors.push_back({entry.name,
                                 {count},
                                 blockTypeOf(getFormat("f32")),
                                 static_cast<uint64_t>(count) * sizeof(float)});
            m_entries.push_back(std::move(entry));
            return;
        }
        const TensorInfo& info = *entry.source;
        const bool kept = isKept(entry.keys);
        const TensorChoice choice =
            entry.keys.empty() ? TensorChoice{} : m_recipe.choose(m_model, entry.keys.front());
        if (choice.format && !choice.format->isFloat() && choice.method &&
            choice.method->keepsOutliers() && !kept)
            fail(
                ErrorKind::Usage,
                "Tensor \"{}\" is made by {} in this recipe, and no GGUF file can hold its outlier "
                "columns; choose rtn and q8_0 for it.",
                printable(entry.name), choice.method->title);
        const BlockType* type = kept ? info.type : blockTypeHolding(*choice.format);
        if (!type || type->ggufType < 0)
            fail(ErrorKind::Usage,
                 "Tensor \"{}\" is {} in this recipe, which no GGUF file can hold; choose f16, "
                 "q8_0, q4_0 or q4_1 for it.",
                 printable(entry.name), choice.format ? choice.format->name : info.type->name);
        if (entry.keys.empty()) {
            const uint64_t rowBlocks =
                (static_cast<uint64_t>(info.cols()) + type->blockValues - 1) / type->blockValues;
            m_tensors.push_back(
                {entry.name, info.dims, type,
                 rowBlocks * type->blockBytes * static_cast<uint64_t>(info.rows())});
        } else {
            uint64_t bytes = 0;
            for (const TensorKey key : entry.keys)
                bytes += bytesOf(key, *type);
            m_tensors.push_back({entry.name, dimsOf(entry), type, bytes});
        }
        m_entries.push_back(std::move(entry));
    }
    /// The type that holds most of the matrices' values.
    int64_t fileType() const {
        std::map<std::string_view, int64_t> values;
        for (size_t i = 0; i < m_entries.size(); ++i)
            for (const TensorKey key : m_entries[i].keys)
                if (isMatrix(key.role))
                    values[m_tensors[i].type->name] += m_model.get(key).values();
        int64_t most = 0, number = 1;
        for (const FileType& type : kFileTypes)
            if (const auto at = values.find(type.format); at != values.end() && at->second > most) {
                most = at->second;
                number = type.number;
            }
        return number;
    }

    const Model& m_model;
    const Recipe& m_recipe;
    Quantizer m_quantizer;
    std::vector<GgufTensor> m_tensors;
    std::vector<Entry> m_entries;
};

} // namespace

void checkGguf(const Model& model, const Recipe& recipe) {
    const Export fits(model, recipe, nullptr);
}

ExportReport exportGguf(const Model& model, const Recipe& recipe, const std::filesystem::path& path,
                        const Progress& progress, std::shared_ptr<const Calibration> calibration,
                        const ExportNotes& notes) {
    model.requireRunnable();
    std::error_code ignored;
    if (std::filesystem::equivalent(path, model.checkpoint->path, ignored))
        fail(ErrorKind::Usage,
             "\"{}\" is the base itself, which is never overwritten; choose another "
             "name.",
             printable(path.filename().string()));
    const std::string receipt = receiptJson(model, recipe, "gguf", calibration.get(), notes);
    std::optional<Export> checked;
    namingLevels(model, "gguf", [&] { checked.emplace(model, recipe, std::move(calibration)); });
    Export& out = *checked;
    Progress part = progress;
    part.onReport = nullptr;
    const auto total = static_cast<double>(out.tensors().size());
    Metadata metadata = out.metadata();
    putText(metadata, kReceiptKey, receipt);
    writeGgufInParts(path, metadata, out.tensors(), [&](size_t index, const PutBytes& put) {
        progress.check();
        progress.report(static_cast<double>(index), total, out.tensors()[index].name);
        return out.produce(index, put, part);
    });
    const ExportReport report = out.report();
    writeFileAtomically(receiptPath(path), receiptText(receipt, report));
    progress.report(total, total, "");
    return report;
}

} // namespace nibble
