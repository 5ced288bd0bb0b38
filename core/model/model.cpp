#include "core/model/model.h"

#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/file_kind.h"
#include "core/model/architectures.h"
#include "core/model/names.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace nibble {
namespace {

/// A stored tensor's role by its file name, with the layer read from where "{}" stands.
std::optional<TensorKey> matchName(const RoleName& row, const char* pattern,
                                   std::string_view name) {
    const std::string_view text(pattern);
    const size_t hole = text.find("{}");
    if (hole == std::string_view::npos)
        return text == name ? std::optional<TensorKey>(TensorKey{row.role, -1}) : std::nullopt;
    if (!name.starts_with(text.substr(0, hole)))
        return {};
    int32_t layer = -1;
    const char* end = name.data() + name.size();
    const auto [rest, code] = std::from_chars(name.data() + hole, end, layer);
    if (code != std::errc() || layer < 0 || layer >= limits::kLayers ||
        std::string_view(rest, static_cast<size_t>(end - rest)) != text.substr(hole + 2))
        return {};
    return TensorKey{row.role, layer};
}

const char* nameIn(const RoleName& row, Checkpoint::Container container) {
    return container == Checkpoint::Container::Safetensors ? row.huggingFace : row.gguf;
}

std::string storedName(const Architecture& architecture, const Checkpoint& checkpoint,
                       TensorKey key) {
    for (const RoleName& row : architecture.names)
        if (row.role == key.role && nameIn(row, checkpoint.container))
            return fmt::format(fmt::runtime(nameIn(row, checkpoint.container)), key.layer);
    return tensorName(key);
}

struct Shape {
    int64_t rows, cols;
};

Shape expectedShape(const ModelConfig& c, Role role) {
    switch (role) {
    case Role::TokenEmbedding:
    case Role::Output:
        return {c.vocabulary, c.width};
    case Role::OutputNorm:
    case Role::AttentionNorm:
    case Role::FeedForwardNorm:
    case Role::AttentionOutputBias:
        return {1, c.width};
    case Role::RopeFactors:
        return {1, c.ropeDimensions / 2};
    case Role::Query:
        return {c.queryWidth(), c.width};
    case Role::Key:
    case Role::Value:
        return {c.kvWidth(), c.width};
    case Role::AttentionOutput:
        return {c.width, c.queryWidth()};
    case Role::QueryBias:
        return {1, c.queryWidth()};
    case Role::KeyBias:
    case Role::ValueBias:
        return {1, c.kvWidth()};
    case Role::Gate:
    case Role::Up:
        return {c.feedForward, c.width};
    case Role::Down:
        return {c.width, c.feedForward};
    }
    return {0, 0};
}

void checkShape(const Checkpoint& checkpoint, const ModelConfig& config, const TensorInfo& info,
                TensorKey key) {
    const Shape shape = expectedShape(config, key.role);
    if (info.rows() != shape.rows || info.cols() != shape.cols || info.experts() != 1)
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" has {} x {} values, but the model's configuration asks for "
             "{} x {}. The file is damaged or mixed from two models.",
             printable(checkpoint.path.filename().string()), printable(info.name), info.rows(),
             info.cols(), shape.rows, shape.cols);
}

/// Tensors that hold no weights of the forward pass: old exporters stored rotary tables.
bool isHarmless(std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn_rot_embd") ||
           name.ends_with(".masked_bias");
}

const Architecture* findArchitecture(const Checkpoint& checkpoint, std::string& wanted) {
    const bool folder = checkpoint.container == Checkpoint::Container::Safetensors;
    if (folder) {
        if (const auto* names = checkpoint.metadata.findStrings("architectures");
            names && !names->empty())
            wanted = names->front();
    } else {
        wanted = checkpoint.metadata.stringOr("general.architecture", "");
    }
    for (const Architecture* a : architectures())
        if (wanted == (folder ? a->huggingFaceClass : a->name))
            return a;
    return nullptr;
}

std::string knownArchitectures(bool folder) {
    std::string known;
    for (const Architecture* a : architectures())
        known += (known.empty() ? "" : ", ") + std::string(folder ? a->huggingFaceClass : a->name);
    return known;
}

/// The template of a folder, from chat_template.jinja or tokenizer_config.json.
std::string folderTemplate(const std::filesystem::path& folder) {
    std::error_code ignored;
    if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file, ignored))
        return readTextFile(file, limits::kStringBytes);
    const auto file = folder / "tokenizer_config.json";
    if (!std::filesystem::exists(file, ignored))
        return {};
    const auto json = nlohmann::json::parse(readTextFile(file, limits::kJsonBytes), nullptr, false);
    if (!json.is_object() || !json.contains("chat_template"))
        return {};
    const auto& value = json["chat_template"];
    if (value.is_string())
        return value.get<std::string>();
    if (!value.is_array())
        return {};
    for (const auto& named : value)
        if (named.is_object() && named.value("name", "") == "default" &&
            named.contains("template") && named["template"].is_string())
            return named["template"].get<std::string>();
    return {};
}

std::string modelName(const Checkpoint& checkpoint) {
    if (const std::string* name = checkpoint.metadata.findString("general.name");
        name && !name->empty())
        return *name;
    auto path = checkpoint.path;
    if (!path.has_filename())
        path = path.parent_path();
    return checkpoint.container == Checkpoint::Container::Gguf ? path.stem().string()
                                                               : path.filename().string();
}

} // namespace

const TensorInfo* Model::find(TensorKey key) const {
    const auto at = m_index.find(key);
    return at == m_index.end() ? nullptr : &checkpoint->tensors[at->second];
}

const TensorInfo& Model::get(TensorKey key) const {
    if (const TensorInfo* info = find(key))
        return *info;
    fail(ErrorKind::BadInput, "{} has no tensor \"{}\".", printable(name), tensorName(key));
}

Tensor Model::load(TensorKey key) const {
    const TensorInfo& info = get(key);
    return m_generate ? m_generate(info, key) : loadTensor(info);
}

std::optional<TensorKey> Model::keyOf(std::string_view tensorName) const {
    for (const auto& [key, index] : m_index)
        if (checkpoint->tensors[index].name == tensorName)
            return key;
    return {};
}

TensorKey Model::headKey() const {
    return {config.tiedEmbedding ? Role::TokenEmbedding : Role::Output, -1};
}

int64_t Model::parameters() const {
    int64_t count = 0;
    for (const TensorInfo& info : checkpoint->tensors)
        if (info.owner.empty())
            count += info.values();
    return count;
}

void Model::requireRunnable() const {
    if (!unsupported.empty())
        throw Error(ErrorKind::BadInput, unsupported);
}

void Model::requireTokenizer(std::string_view so) const {
    if (tokenizer)
        return;
    if (!tokenizerProblem.empty())
        throw Error(ErrorKind::BadInput, tokenizerProblem);
    fail(ErrorKind::BadInput, "{} has no tokenizer, so that {}. Use a file with a vocabulary.",
         printable(name), so);
}

namespace {

/// Roles of all stored tensors; UnsupportedModel names one that the forward pass does not know.
std::map<TensorKey, size_t> indexTensors(const Checkpoint& checkpoint,
                                         const Architecture& architecture) {
    std::map<TensorKey, size_t> index;
    for (size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const std::string& name = checkpoint.tensors[i].name;
        if (!checkpoint.tensors[i].owner.empty())
            continue;
        std::optional<TensorKey> key;
        for (const RoleName& row : architecture.names)
            if (const char* pattern = nameIn(row, checkpoint.container); pattern && !key)
                key = matchName(row, pattern, name);
        if (key)
            index[*key] = i;
        else if (!isHarmless(name))
            throw UnsupportedModel(fmt::format(
                "\"{}\" has a tensor \"{}\" that the forward pass of {} does not know, so it "
                "cannot be run; it can be inspected.",
                printable(checkpoint.path.filename().string()), printable(name),
                architecture.name));
    }
    return index;
}

/// Keys in the order of the forward pass; checks that nothing is missing or misshapen.
std::vector<TensorKey> orderedKeys(const Checkpoint& checkpoint, const Architecture& architecture,
                                   const ModelConfig& config,
                                   const std::map<TensorKey, size_t>& index) {
    std::vector<TensorKey> keys;
    std::vector<std::string> missing;
    const auto add = [&](const RoleName& row, int32_t layer) {
        const TensorKey key{row.role, layer};
        const auto at = index.find(key);
        if (at != index.end()) {
            checkShape(checkpoint, config, checkpoint.tensors[at->second], key);
            keys.push_back(key);
        } else if (row.required || (row.role == Role::Output && !config.tiedEmbedding)) {
            missing.push_back(storedName(architecture, checkpoint, key));
        }
    };
    const auto inLayer = [](const RoleName& row) {
        return std::string_view(row.gguf).starts_with("blk.");
    };
    for (const RoleName& row : architecture.names)
        if (!inLayer(row) && row.role != Role::OutputNorm && row.role != Role::Output)
            add(row, -1);
    for (int32_t layer = 0; layer < config.layers; ++layer)
        for (const RoleName& row : architecture.names)
            if (inLayer(row))
                add(row, layer);
    for (const RoleName& row : architecture.names)
        if (row.role == Role::OutputNorm || row.role == Role::Output)
            add(row, -1);
    if (!missing.empty())
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" is missing{}, so the model is not complete. Was a part of it not "
             "downloaded?",
             printable(checkpoint.path.filename().string()), missing.front(),
             missing.size() > 1 ? fmt::format(" and {} more", missing.size() - 1) : "");
    return keys;
}

void readRopeFactors(const Model& model, ModelConfig& config) {
    if (!model.find({Role::RopeFactors, -1}))
        return;
    config.ropeFactors = decode(model.load({Role::RopeFactors, -1}));
    for (const float factor : config.ropeFactors)
        if (!(factor > 0) || !std::isfinite(factor))
            fail(ErrorKind::BadInput, "{}: \"rope_freqs.weight\" holds {}; factors are positive.",
                 printable(model.name), factor);
}

} // namespace

std::shared_ptr<const Model> understand(std::shared_ptr<const Checkpoint> checkpoint) {
    auto model = std::make_shared<Model>();
    model->name = modelName(*checkpoint);
    model->checkpoint = checkpoint;
    const bool folder = checkpoint->container == Checkpoint::Container::Safetensors;
    model->chatTemplate = folder ? folderTemplate(checkpoint->path)
                                 : checkpoint->metadata.stringOr("tokenizer.chat_template", "");
    std::string wanted;
    const Architecture* architecture = findArchitecture(*checkpoint, wanted);
    if (const FileKind kind = fileKind(*checkpoint); kind != FileKind::Model) {
        model->config.architecture = wanted;
        model->unsupported = fmt::format("{}: {}", printable(model->name), whyNotRunnable(kind));
        return model;
    }
    if (!architecture) {
        model->config.architecture = wanted;
        model->unsupported =
            wanted.empty()
                ? fmt::format("\"{}\" does not say what architecture it has, so it cannot be run; "
                              "it can be inspected.",
                              printable(model->name))
                : fmt::format("The architecture \"{}\" of \"{}\" is not known yet (known: {}), so "
                              "it cannot be run; it can be inspected.",
                              printable(wanted), printable(model->name),
                              knownArchitectures(folder));
        return model;
    }
    if (!checkpoint->unsupported.empty()) {
        model->config.architecture = architecture->name;
        model->unsupported = checkpoint->unsupported;
        return model;
    }
    try {
        ModelConfig& config = model->config;
        config.architecture = architecture->name;
        config = folder ? architecture->readHuggingFace(checkpoint->metadata)
                        : architecture->readGguf(checkpoint->metadata);
        model->m_index = indexTensors(*checkpoint, *architecture);
        const TensorKey head{Role::Output, -1}, embedding{Role::TokenEmbedding, -1};
        if (!folder) {
            config.tiedEmbedding = !model->m_index.contains(head);
        } else if (config.tiedEmbedding) {
            // Of two names for one tensor an exporter may keep either.
            const auto stored = model->m_index.extract(head);
            if (!stored.empty())
                model->m_index.try_emplace(embedding, stored.mapped());
        }
        if (const TensorInfo* table = model->find(embedding);
            table && table->rows() <= int64_t(limits::kVocabulary))
            config.vocabulary = static_cast<int32_t>(table->rows());
        model->m_keys = orderedKeys(*checkpoint, *architecture, config, model->m_index);
        readRopeFactors(*model, config);
    } catch (const UnsupportedModel& error) {
        model->unsupported = error.what();
        model->m_keys.clear();
        return model;
    }
    try {
        model->tokenizer = openTokenizer(*checkpoint);
    } catch (const Error& error) { // weights can be looked at, measured and converted without one
        if (error.kind() != ErrorKind::BadInput)
            throw;
        model->tokenizerProblem = error.what();
    }
    return model;
}

std::shared_ptr<const Model> openForInspection(const std::filesystem::path& path) {
    const auto checkpoint = openCheckpoint(path);
    try {
        return understand(checkpoint);
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::BadInput)
            throw;
        auto model = std::make_shared<Model>();
        model->name = modelName(*checkpoint);
        model->checkpoint = checkpoint;
        findArchitecture(*checkpoint, model->config.architecture);
        model->unsupported = error.what();
        return model;
    }
}

std::shared_ptr<const Model> openModel(const std::filesystem::path& path) {
    return understand(openCheckpoint(path));
}

} // namespace nibble
