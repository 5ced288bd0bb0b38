#include "core/model/tensor_index.h"

#include "core/base/limits.h"
#include "core/model/names.h"
#include "core/model/tensor_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

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

/// What GGUF files called one expert's tensor before they stacked them:
/// "blk.{}.ffn_gate.{}.weight". Empty where there was none.
std::string unstackedName(const RoleName& row) {
    constexpr std::string_view kStacked = "_exps";
    std::string name = row.gguf && row.isOfOneExpert() ? row.gguf : "";
    const size_t at = name.find(kStacked);
    return at == std::string::npos ? "" : name.replace(at, kStacked.size(), ".{}");
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
    case Role::ConvolutionIn:
        return {3 * int64_t(c.width), c.width};
    case Role::Convolution:
        return {c.width, c.convolutionTaps};
    case Role::ConvolutionOut:
        return {c.width, c.width};
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

/// Tensors that hold no weights of the forward pass: old exporters stored rotary tables.
bool isHarmless(std::string_view name) {
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".attn_rot_embd") ||
           name.ends_with(".attn.masked_bias") || name.ends_with(".attn.bias");
}

} // namespace

TensorIndex::TensorIndex(const Checkpoint& checkpoint, const Architecture& architecture,
                         const ModelConfig& config)
    : m_checkpoint(checkpoint), m_architecture(architecture), m_config(config),
      m_folder(checkpoint.container == Checkpoint::Container::Safetensors) {}

void TensorIndex::read() {
    for (const TensorInfo& info : m_checkpoint.tensors)
        if (info.owner.empty() && !add(info) && !isHarmless(info.name))
            throw UnsupportedModel(fmt::format(
                "\"{}\" has a tensor \"{}\" that the forward pass of {} does not know, so it "
                "cannot be run; it can be inspected.",
                printable(m_checkpoint.path.filename().string()), printable(info.name),
                m_architecture.name));
    for (const auto& [key, info] : tensors)
        if (const auto first = tensors.find({key.role, key.layer, 0});
            key.expert > 0 && first != tensors.end() && first->second.format() != info.format())
            throw UnsupportedModel(fmt::format(
                "\"{}\" keeps expert {} of \"{}\" as {} and the first as {}; experts of one layer "
                "that differ cannot be run. It can be inspected.",
                printable(m_checkpoint.path.filename().string()), key.expert,
                tensorName({key.role, key.layer}), info.storedText(), first->second.storedText()));
}

std::vector<TensorKey> TensorIndex::orderedKeys() const {
    std::vector<TensorKey> keys;
    std::vector<std::string> missing;
    const auto isLast = [](const RoleName& row) {
        return row.role == Role::OutputNorm || row.role == Role::OutputNormBias ||
               row.role == Role::Output;
    };
    for (const RoleName& row : m_architecture.names)
        if (!inLayers(row) && !isLast(row))
            addKeys(row, -1, keys, missing);
    for (int32_t layer = 0; layer < m_config.layers; ++layer)
        for (const RoleName& row : m_architecture.names)
            if (inLayers(row))
                addKeys(row, layer, keys, missing);
    for (const RoleName& row : m_architecture.names)
        if (isLast(row))
            addKeys(row, -1, keys, missing);
    if (!missing.empty())
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" is missing{}, so the model is not complete. Was a part of it not "
             "downloaded?",
             printable(m_checkpoint.path.filename().string()), missing.front(),
             missing.size() > 1 ? fmt::format(" and {} more", missing.size() - 1) : "");
    return keys;
}

std::vector<std::vector<TensorKey>> TensorIndex::groups(std::span<const TensorKey> keys) const {
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

bool TensorIndex::applies(const RoleName& row, int32_t layer) const {
    if (layer < 0 || layer >= m_config.layers)
        return layer < 0 || (!row.ofExperts && !isOfExpert(row.role));
    const LayerConfig& at = m_config.layer(layer);
    return belongsTo(row.role, at.mixer) &&
           ((!row.ofExperts && !isOfExpert(row.role)) || row.ofExperts == at.experts);
}

void TensorIndex::addKeys(const RoleName& row, int32_t layer, std::vector<TensorKey>& keys,
                          std::vector<std::string>& missing) const {
    if (!applies(row, layer))
        return;
    const bool each = row.isOfOneExpert();
    for (int32_t e = 0; e < (each ? m_config.experts : 1); ++e) {
        const TensorKey key{row.role, layer, each ? e : -1};
        if (tensors.contains(key))
            keys.push_back(key);
        else if (row.required || (row.role == Role::Output && !m_config.tiedEmbedding))
            missing.push_back(storedName(row, key));
    }
}

std::string TensorIndex::storedName(const RoleName& row, TensorKey key) const {
    const char* name = nameIn(row, m_checkpoint.container);
    return name ? fmt::format(fmt::runtime(name), key.layer, key.expert) : tensorName(key);
}

/// What lies in a stored tensor, in its order.
std::vector<TensorIndex::Part> TensorIndex::partsOf(const TensorInfo& info) const {
    std::vector<Part> parts;
    const std::string name = fullName(m_architecture, m_checkpoint, info.name);
    for (const RoleName& row : m_architecture.names) {
        const char* pattern = nameIn(row, m_checkpoint.container);
        auto holes = pattern ? matchName(pattern, name) : std::nullopt;
        if (const std::string older = m_folder ? "" : unstackedName(row); !holes && !older.empty())
            holes = matchName(older, name);
        if (!holes || !applies(row, holes->layer) || holes->expert >= std::max(m_config.experts, 1))
            continue;
        const Shape shape = expectedShape(m_config, row.role, row.ofExperts);
        const bool stacked = row.isOfOneExpert() && holes->expert < 0;
        for (int32_t e = 0; e < (stacked ? m_config.experts : 1); ++e)
            parts.push_back(
                {{row.role, holes->layer, stacked ? e : holes->expert}, shape.rows, shape.cols});
    }
    return parts;
}

/// Finds what lies in a stored tensor; false when nothing does.
bool TensorIndex::add(const TensorInfo& info) {
    const std::vector<Part> parts = partsOf(info);
    if (parts.empty())
        return false;
    const Part& one = parts.front();
    if (m_folder && m_architecture.folderStacksExperts && one.key.expert >= 0) {
        addStack(info, parts);
        return true;
    }
    // What other quantizers packed, they have turned around.
    const bool turned = m_folder && m_architecture.folderTransposes && !info.packed &&
                        isMatrix(one.key.role) && one.key.layer >= 0;
    const int64_t rows = turned ? info.cols() : info.rows();
    const int64_t cols = turned ? info.rows() : info.cols();
    // Several vectors in one tensor lie behind each other in its one row, matrices row by row.
    const bool vectors = one.rows == 1 && info.dims.size() == 1;
    int64_t wanted = vectors ? 1 : 0, wantedCols = vectors ? 0 : one.cols;
    for (const Part& part : parts)
        (vectors ? wantedCols : wanted) += vectors ? part.cols : part.rows;
    if (rows != wanted || cols != wantedCols)
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" has {} x {} values, but the model's configuration asks for "
             "{} x {}. The file is damaged or mixed from two models.",
             printable(m_checkpoint.path.filename().string()), printable(info.name), rows, cols,
             wanted, wantedCols);
    int64_t next = 0;
    std::vector<TensorKey>& keys = stored[info.name];
    for (const Part& part : parts) {
        tensors[part.key] = cut(info, part, next, turned, vectors, parts.size() == 1);
        next += vectors ? part.cols : part.rows;
        keys.push_back(part.key);
    }
    return true;
}

/// A folder's stack of experts, whose parts follow each other role by role.
void TensorIndex::addStack(const TensorInfo& info, const std::vector<Part>& parts) {
    const auto turns = static_cast<int64_t>(parts.size()) / m_config.experts;
    const Shape shape{parts.front().rows, parts.front().cols};
    const auto wanted = stackDims(info, m_config.experts, shape, turns);
    if (info.dims != wanted)
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" is [{}], but the model's configuration asks for [{}]. The file is "
             "damaged or mixed from two models.",
             printable(m_checkpoint.path.filename().string()), printable(info.name),
             fmt::join(info.dims, ", "), fmt::join(wanted, ", "));
    std::vector<TensorKey>& keys = stored[info.name];
    for (size_t i = 0; i < parts.size(); ++i) {
        const auto at = static_cast<int64_t>(i);
        tensors[parts[i].key] =
            stackPart(info, at % m_config.experts, shape, at / m_config.experts, turns);
        keys.push_back(parts[i].key);
    }
}

TensorInfo TensorIndex::cut(const TensorInfo& info, const Part& part, int64_t first, bool turned,
                            bool vectors, bool whole) const {
    const auto [key, rows, cols] = part;
    const std::vector<int64_t> dims =
        isMatrix(key.role) || rows > 1 ? std::vector{rows, cols} : std::vector{cols};
    if (m_folder && m_architecture.folderNormOffset != 0 && isNorm(key.role))
        return derived(info, dims,
                       [offset = m_architecture.folderNormOffset](std::vector<float> values) {
                           for (float& value : values)
                               value += offset;
                           return values;
                       });
    if (turned)
        return derived(info, dims,
                       [rows = part.rows, cols = part.cols, first,
                        all = info.cols()](const std::vector<float>& values) {
                           std::vector<float> out(static_cast<size_t>(rows * cols));
                           for (int64_t r = 0; r < rows; ++r)
                               for (int64_t c = 0; c < cols; ++c)
                                   out[static_cast<size_t>(r * cols + c)] =
                                       values[static_cast<size_t>(c * all + first + r)];
                           return out;
                       });
    if (whole) {
        TensorInfo same = info;
        if (key.role == Role::Convolution) // which folders keep as [width][1][taps]
            same.dims = dims;
        return same;
    }
    if (vectors) {
        // Float vectors: cut by values instead of rows.
        TensorInfo column = info;
        column.dims = {info.cols(), 1};
        TensorInfo values = rowsOf(column, first, {cols, 1});
        values.dims = dims;
        return values;
    }
    return rowsOf(info, first, {rows, cols});
}

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

void findMixtures(const Checkpoint& checkpoint, const Architecture& architecture,
                  ModelConfig& config) {
    for (const RoleName& row : architecture.names)
        for (int32_t i = 0; i < config.layers && row.isOfOneExpert() && row.role == Role::Down; ++i)
            config.perLayer[static_cast<size_t>(i)].experts =
                config.experts > 0 &&
                (checkpoint.find(fmt::format(fmt::runtime(row.gguf), i)) ||
                 checkpoint.find(fmt::format(fmt::runtime(unstackedName(row)), i, 0)));
}

} // namespace nibble
