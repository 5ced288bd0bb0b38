#include "core/model/model.h"

#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/packings.h"
#include "core/model/architectures.h"
#include "core/model/names.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

/// The numbers that stand where a pattern has "{}"; nothing when the name is another.
struct Holes {
    int32_t layer = -1, expert = -1;
};
std::optional<Holes> matchName(std::string_view pattern, std::string_view name) {
    Holes holes;
    for (int32_t* number : {&holes.layer, &holes.expert}) {
        const size_t hole = pattern.find("{}");
        if (hole == std::string_view::npos)
            break;
        if (!name.starts_with(pattern.substr(0, hole)))
            return {};
        name.remove_prefix(hole);
        pattern.remove_prefix(hole + 2);
        const auto [rest, code] = std::from_chars(name.data(), name.data() + name.size(), *number);
        if (code != std::errc() || *number < 0 || *number >= limits::kLayers)
            return {};
        name.remove_prefix(static_cast<size_t>(rest - name.data()));
    }
    return name == pattern ? std::optional(holes) : std::nullopt;
}

const char* nameIn(const RoleName& row, Checkpoint::Container container) {
    return container == Checkpoint::Container::Safetensors ? row.huggingFace : row.gguf;
}

/// The name that a table has for what is stored under `name`.
std::string fullName(const Architecture& architecture, const Checkpoint& checkpoint,
                     const std::string& name) {
    const std::string prefix = architecture.optionalPrefix;
    const bool lacks = checkpoint.container == Checkpoint::Container::Safetensors &&
                       !prefix.empty() && !name.starts_with(prefix) && name != "lm_head.weight";
    return lacks ? prefix + name : name;
}

bool inLayers(const RoleName& row) {
    return std::string_view(row.gguf ? row.gguf : row.huggingFace).find("{}") !=
           std::string_view::npos;
}

struct Shape {
    int64_t rows, cols;
};

/// Of one expert for the roles that experts have.
Shape expectedShape(const ModelConfig& c, Role role, bool ofExpert) {
    const int64_t inner = ofExpert ? c.expertFeedForward : c.feedForward;
    const bool full = c.queryKeyNorm == QueryKeyNorm::Full;
    switch (role) {
    case Role::TokenEmbedding:
    case Role::Output:
        return {c.vocabulary, c.width};
    case Role::PositionEmbedding:
        return {c.contextLength, c.width};
    case Role::OutputNorm:
    case Role::OutputNormBias:
    case Role::AttentionNorm:
    case Role::AttentionNormBias:
    case Role::AttentionPostNorm:
    case Role::FeedForwardNorm:
    case Role::FeedForwardNormBias:
    case Role::FeedForwardPostNorm:
    case Role::AttentionOutputBias:
    case Role::DownBias:
    case Role::SharedRouter:
        return {1, c.width};
    case Role::RopeFactors:
    case Role::RopeFactorsLong:
    case Role::RopeFactorsShort:
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
    case Role::QueryNorm:
        return {1, full ? c.queryWidth() : c.headSize};
    case Role::KeyNorm:
        return {1, full ? c.kvWidth() : c.headSize};
    case Role::AttentionSinks:
        return {1, c.heads};
    case Role::Router:
        return {c.experts, c.width};
    case Role::RouterBias:
        return {1, c.experts};
    case Role::Gate:
    case Role::Up:
        return {inner, c.width};
    case Role::Down:
        return {c.width, inner};
    case Role::GateBias:
    case Role::UpBias:
        return {1, inner};
    case Role::SharedGate:
    case Role::SharedUp:
        return {c.sharedFeedForward, c.width};
    case Role::SharedDown:
        return {c.width, c.sharedFeedForward};
    }
    return {0, 0};
}

bool isNorm(Role role) {
    switch (role) {
    case Role::OutputNorm:
    case Role::AttentionNorm:
    case Role::AttentionPostNorm:
    case Role::FeedForwardNorm:
    case Role::FeedForwardPostNorm:
    case Role::QueryNorm:
    case Role::KeyNorm:
        return true;
    default:
        return false;
    }
}

/// Tensors that hold no weights of the forward pass: old exporters stored rotary tables.
bool isHarmless(std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn_rot_embd") ||
           name.ends_with(".attn.masked_bias") || name.ends_with(".attn.bias");
}

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
    const auto at = m_tensors.find(key);
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

namespace {

/// `rows` rows of a stored tensor from row `first` on. What is packed or has factors is loaded
/// whole and then cut.
TensorInfo rowsOf(const TensorInfo& stored, int64_t first, Shape shape) {
    TensorInfo part;
    part.name = stored.name;
    part.dims = shape.rows == 1 ? std::vector{shape.cols} : std::vector{shape.rows, shape.cols};
    part.type = stored.type;
    part.mapped = stored.mapped;
    const bool plain = !stored.packed && stored.factors.empty();
    if (plain) {
        const auto rowBytes = stored.storedBytes() / static_cast<uint64_t>(stored.rows());
        if (!stored.bytes.empty())
            part.bytes = stored.bytes.slice(static_cast<uint64_t>(first) * rowBytes,
                                            static_cast<uint64_t>(shape.rows) * rowBytes);
        return part;
    }
    PackedWeight cut = stored.packed ? *stored.packed : PackedWeight{};
    cut.format = stored.format();
    cut.rows = shape.rows;
    cut.cols = shape.cols;
    cut.bytes = stored.storedBytes() / static_cast<uint64_t>(stored.rows()) *
                static_cast<uint64_t>(shape.rows);
    cut.load = [stored, first, shape](const std::string&) {
        std::vector<int64_t> order(static_cast<size_t>(shape.rows));
        std::iota(order.begin(), order.end(), first);
        return gatherRows(loadTensor(stored), order);
    };
    part.packed = std::make_shared<const PackedWeight>(std::move(cut));
    return part;
}

/// A tensor that is not what the file holds: its values are made when it is loaded.
TensorInfo derived(const TensorInfo& stored, std::vector<int64_t> dims,
                   std::function<std::vector<float>(const std::vector<float>&)> change) {
    TensorInfo info;
    info.name = stored.name;
    info.dims = std::move(dims);
    info.type = stored.type;
    PackedWeight made;
    const Format* own = stored.format();
    made.format = own && own->isFloat() && own->code != CodeKind::Float32 ? own : &getFormat("f32");
    made.rows = info.rows();
    made.cols = info.cols();
    made.bytes = stored.storedBytes();
    made.codes = stored.bytes;
    made.load = [stored, rows = made.rows, cols = made.cols, format = made.format,
                 change = std::move(change)](const std::string& name) {
        return makeFloatTensor(name, *format, rows, cols, change(decode(loadTensor(stored))));
    };
    info.packed = std::make_shared<const PackedWeight>(std::move(made));
    return info;
}

/// Finds the tensors of a model in its checkpoint.
class TensorIndex {
public:
    TensorIndex(const Checkpoint& checkpoint, const Architecture& architecture,
                const ModelConfig& config)
        : m_checkpoint(checkpoint), m_architecture(architecture), m_config(config),
          m_folder(checkpoint.container == Checkpoint::Container::Safetensors) {}

    std::map<TensorKey, TensorInfo> tensors;
    std::map<std::string, std::vector<TensorKey>, std::less<>> stored;

    /// UnsupportedModel names a stored tensor that the forward pass does not know.
    void read() {
        for (const TensorInfo& info : m_checkpoint.tensors)
            if (info.owner.empty() && !add(info) && !isHarmless(info.name))
                throw UnsupportedModel(fmt::format(
                    "\"{}\" has a tensor \"{}\" that the forward pass of {} does not know, so it "
                    "cannot be run; it can be inspected.",
                    printable(m_checkpoint.path.filename().string()), printable(info.name),
                    m_architecture.name));
    }

    /// Keys in the order of the forward pass; checks that nothing is missing.
    std::vector<TensorKey> orderedKeys() const {
        std::vector<TensorKey> keys;
        const auto isLast = [](const RoleName& row) {
            return row.role == Role::OutputNorm || row.role == Role::OutputNormBias ||
                   row.role == Role::Output;
        };
        for (const RoleName& row : m_architecture.names)
            if (!inLayers(row) && !isLast(row))
                addKeys(row, -1, keys);
        for (int32_t layer = 0; layer < m_config.layers; ++layer)
            for (const RoleName& row : m_architecture.names)
                if (inLayers(row))
                    addKeys(row, layer, keys);
        for (const RoleName& row : m_architecture.names)
            if (isLast(row))
                addKeys(row, -1, keys);
        return keys;
    }

    /// Keys that lie in one tensor of a GGUF file of this architecture.
    std::vector<std::vector<TensorKey>> groups(std::span<const TensorKey> keys) const {
        std::map<std::string, std::vector<TensorKey>> byName;
        for (const TensorKey key : keys)
            for (const RoleName& row : m_architecture.names)
                if (row.holds(key) && row.gguf) {
                    byName[fmt::format(fmt::runtime(row.gguf), key.layer)].push_back(key);
                    break;
                }
        std::vector<std::vector<TensorKey>> found;
        for (auto& [name, group] : byName)
            if (group.size() > 1)
                found.push_back(std::move(group));
        return found;
    }

private:
    bool applies(const RoleName& row, int32_t layer) const {
        const bool mixture = layer >= 0 && layer < m_config.layers && m_config.layer(layer).experts;
        return layer < 0 || (!row.ofExperts && !isOfExpert(row.role)) || row.ofExperts == mixture;
    }

    void addKeys(const RoleName& row, int32_t layer, std::vector<TensorKey>& keys) const {
        if (!applies(row, layer))
            return;
        const bool each = row.isOfOneExpert();
        for (int32_t e = 0; e < (each ? m_config.experts : 1); ++e) {
            const TensorKey key{row.role, layer, each ? e : -1};
            if (tensors.contains(key)) {
                if (std::find(keys.begin(), keys.end(), key) == keys.end())
                    keys.push_back(key);
            } else if (row.required || (row.role == Role::Output && !m_config.tiedEmbedding)) {
                fail(ErrorKind::BadInput,
                     "{}: tensor \"{}\" is missing, so the model is not complete. Was a part of it "
                     "not downloaded?",
                     printable(m_checkpoint.path.filename().string()), storedName(row, key));
            }
        }
    }

    std::string storedName(const RoleName& row, TensorKey key) const {
        const char* name = nameIn(row, m_checkpoint.container);
        return name ? fmt::format(fmt::runtime(name), key.layer, key.expert) : tensorName(key);
    }

    /// Finds what lies in a stored tensor; false when nothing does.
    bool add(const TensorInfo& info) {
        int64_t next = 0, wanted = 0;
        std::vector<TensorKey> found;
        std::vector<Shape> shapes;
        const std::string name = fullName(m_architecture, m_checkpoint, info.name);
        for (const RoleName& row : m_architecture.names) {
            const char* pattern = nameIn(row, m_checkpoint.container);
            const auto holes = pattern ? matchName(pattern, name) : std::nullopt;
            if (!holes || !applies(row, holes->layer))
                continue;
            const Shape shape = expectedShape(m_config, row.role, row.ofExperts);
            const bool stacked = row.isOfOneExpert() && holes->expert < 0;
            for (int32_t e = 0; e < (stacked ? m_config.experts : 1); ++e) {
                found.push_back({row.role, holes->layer, stacked ? e : holes->expert});
                shapes.push_back(shape);
                wanted += shape.rows;
            }
        }
        if (found.empty())
            return false;
        const bool turned = m_folder && m_architecture.folderTransposes &&
                            isMatrix(found[0].role) && found[0].layer >= 0;
        const int64_t rows = turned ? info.cols() : info.rows();
        const int64_t cols = turned ? info.rows() : info.cols();
        // A vector is one row, and several in one tensor lie behind each other in it.
        const bool vectors = shapes[0].rows == 1 && info.dims.size() == 1;
        int64_t wantedCols = shapes[0].cols;
        if (vectors) {
            wantedCols = 0;
            for (const Shape& shape : shapes)
                wantedCols += shape.cols;
            wanted = 1;
        }
        if (rows != wanted || cols != wantedCols)
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" has {} x {} values, but the model's configuration asks for "
                 "{} x {}. The file is damaged or mixed from two models.",
                 printable(m_checkpoint.path.filename().string()), printable(info.name), rows, cols,
                 wanted, wantedCols);
        for (size_t i = 0; i < found.size(); ++i) {
            const int64_t count = vectors ? shapes[i].cols : shapes[i].rows;
            tensors[found[i]] =
                part(info, found[i], shapes[i], next, turned, vectors, found.size() == 1);
            next += count;
        }
        stored[info.name] = std::move(found);
        return true;
    }

    TensorInfo part(const TensorInfo& info, TensorKey key, Shape shape, int64_t first, bool turned,
                    bool vectors, bool whole) const {
        const std::vector<int64_t> dims = isMatrix(key.role) || shape.rows > 1
                                              ? std::vector{shape.rows, shape.cols}
                                              : std::vector{shape.cols};
        if (m_folder && m_architecture.folderNormOffset != 0 && isNorm(key.role))
            return derived(info, dims,
                           [offset = m_architecture.folderNormOffset](std::vector<float> values) {
                               for (float& value : values)
                                   value += offset;
                               return values;
                           });
        if (turned)
            return derived(info, dims,
                           [shape, first, all = info.cols()](const std::vector<float>& values) {
                               std::vector<float> out(static_cast<size_t>(shape.rows * shape.cols));
                               for (int64_t r = 0; r < shape.rows; ++r)
                                   for (int64_t c = 0; c < shape.cols; ++c)
                                       out[static_cast<size_t>(r * shape.cols + c)] =
                                           values[static_cast<size_t>(c * all + first + r)];
                               return out;
                           });
        if (whole)
            return info;
        if (vectors) {
            // Float vectors: cut by values instead of rows.
            TensorInfo column = info;
            column.dims = {info.cols(), 1};
            TensorInfo cut = rowsOf(column, first, {shape.cols, 1});
            cut.dims = dims;
            return cut;
        }
        return rowsOf(info, first, shape);
    }

    const Checkpoint& m_checkpoint;
    const Architecture& m_architecture;
    const ModelConfig& m_config;
    bool m_folder;
};

/// Rows of the embedding table, which count more than what the configuration says.
int32_t vocabularyOf(const Checkpoint& checkpoint, const Architecture& architecture,
                     int32_t otherwise) {
    for (const Role role : {Role::TokenEmbedding, Role::Output})
        for (const RoleName& row : architecture.names)
            for (const TensorInfo& table : checkpoint.tensors)
                if (const char* name = nameIn(row, checkpoint.container);
                    name && row.role == role && table.owner.empty() &&
                    fullName(architecture, checkpoint, table.name) == name &&
                    table.rows() <= int64_t(limits::kVocabulary))
                    return static_cast<int32_t>(table.rows());
    return otherwise;
}

/// GGUF files say which layers are mixtures only by what they hold.
void findMixtures(const Checkpoint& checkpoint, const Architecture& architecture,
                  ModelConfig& config) {
    for (const RoleName& row : architecture.names)
        for (int32_t i = 0; i < config.layers && row.isOfOneExpert() && row.role == Role::Down; ++i)
            config.perLayer[static_cast<size_t>(i)].experts =
                config.experts > 0 && checkpoint.find(fmt::format(fmt::runtime(row.gguf), i));
}

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
    model->tokenizer = openTokenizer(*checkpoint);
    return model;
}

std::shared_ptr<const Model> openModel(const std::filesystem::path& path) {
    return understand(openCheckpoint(path));
}

} // namespace nibble
