#include "core/model/model.h"

#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/file_kind.h"
#include "core/model/config_reader.h"
#include "core/model/names.h"
#include "core/model/tensor_index.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

const Architecture* architectureOf(const Checkpoint& checkpoint, std::string& wanted) {
    const bool folder = checkpoint.container == Checkpoint::Container::Safetensors;
    if (folder) {
        if (const auto* names = checkpoint.metadata.findStrings("architectures");
            names && !names->empty())
            wanted = names->front();
    } else {
        wanted = checkpoint.metadata.stringOr("general.architecture", "");
    }
    for (const Architecture* a : architectures())
        if (wanted == (folder ? a->huggingFaceClass : a->gguf))
            return a;
    return nullptr;
}

std::string knownArchitectures(bool folder) {
    std::vector<std::string> names;
    for (const Architecture* a : architectures())
        if (const char* name = folder ? a->huggingFaceClass : a->gguf;
            std::ranges::find(names, name) == names.end())
            names.emplace_back(name);
    return fmt::format("{}", fmt::join(names, ", "));
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
    auto at = m_tensors.find(key);
    if (at == m_tensors.end() && key.expert < 0 && isOfExpert(key.role))
        at = m_tensors.find({key.role, key.layer, 0});
    return at == m_tensors.end() ? nullptr : &at->second;
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

std::span<const TensorKey> Model::keysOf(std::string_view storedName) const {
    const auto at = m_stored.find(storedName);
    return at == m_stored.end() ? std::span<const TensorKey>() : at->second;
}

std::span<const TensorKey> Model::storedWith(TensorKey key) const {
    if (const auto group = m_groupOf.find(key); group != m_groupOf.end())
        return m_groups[group->second];
    const auto at = m_tensors.find(key);
    return at == m_tensors.end() ? std::span<const TensorKey>() : std::span(&at->first, 1);
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

/// The divisors of a file's rotary frequencies, of which long contexts may have their own.
void readRopeFactors(const Model& model, ModelConfig& config) {
    const auto read = [&](Role role, std::vector<float>& factors) {
        const TensorKey key{role, -1};
        if (!model.find(key))
            return;
        factors = decode(model.load(key));
        for (const float factor : factors)
            if (!(factor > 0) || !std::isfinite(factor))
                fail(ErrorKind::BadInput, "{}: \"{}\" holds {}; factors are positive.",
                     printable(model.name), printable(model.get(key).name), factor);
    };
    read(Role::RopeFactors, config.rope.factors);
    read(Role::RopeFactorsShort, config.rope.factors);
    read(Role::RopeFactorsLong, config.longFactors);
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
    const Architecture* architecture = architectureOf(*checkpoint, wanted);
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
        config = folder ? architecture->readHuggingFace(withRopeSettings(checkpoint->metadata))
                        : architecture->readGguf(checkpoint->metadata);
        config.ropeStyle = folder ? RopeStyle::Halves : architecture->ggufRope;
        if (!folder)
            findMixtures(*checkpoint, *architecture, config);
        config.vocabulary = vocabularyOf(*checkpoint, *architecture, config.vocabulary);
        TensorIndex index(*checkpoint, *architecture, config);
        index.read();
        const TensorKey head{Role::Output, -1}, embedding{Role::TokenEmbedding, -1};
        if (!folder) {
            config.tiedEmbedding = !index.tensors.contains(head);
        } else if (config.tiedEmbedding) {
            // Of two names for one tensor an exporter may keep either.
            if (auto stored = index.tensors.extract(head); !stored.empty()) {
                index.stored[stored.mapped().name] = {embedding};
                index.tensors.try_emplace(embedding, std::move(stored.mapped()));
            }
        }
        model->m_keys = index.orderedKeys();
        model->m_groups = index.groups(model->m_keys);
        model->m_tensors = std::move(index.tensors);
        model->m_stored = std::move(index.stored);
        for (size_t i = 0; i < model->m_groups.size(); ++i)
            for (const TensorKey key : model->m_groups[i])
                model->m_groupOf[key] = i;
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
        architectureOf(*checkpoint, model->config.architecture);
        model->unsupported = error.what();
        return model;
    }
}

std::shared_ptr<const Model> openModel(const std::filesystem::path& path) {
    return understand(openCheckpoint(path));
}

} // namespace nibble
