#include "core/files/packings.h"

#include "core/files/packed_parts.h"
#include "core/files/packing_readers.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <set>

namespace nibble {
namespace {

BlockType storedAs(const char* name) {
    return {name, -1, nullptr, nullptr, 1, 1};
}

std::string dimsText(const TensorInfo& info) {
    std::string text = fmt::format("{} [{}]", info.type->name, fmt::join(info.dims, ", "));
    return info.dims.size() > 8 ? std::string(info.type->name) + " of many dimensions" : text;
}

/// The folder's weights with `weights` in the places of their first tensors.
void replaceParts(Checkpoint& checkpoint, std::map<size_t, TensorInfo> weights,
                  const std::set<size_t>& parts) {
    std::vector<TensorInfo> tensors;
    std::map<size_t, size_t> moved;
    for (size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        if (const auto at = weights.find(i); at != weights.end()) {
            checkpoint.byName.erase(at->second.name);
            checkpoint.byName.emplace(at->second.name, i);
            moved[i] = tensors.size();
            tensors.push_back(std::move(at->second));
        } else if (!parts.contains(i)) {
            moved[i] = tensors.size();
            tensors.push_back(std::move(checkpoint.tensors[i]));
        }
    }
    for (auto at = checkpoint.byName.begin(); at != checkpoint.byName.end();) {
        const auto to = moved.find(at->second);
        const bool isPart = parts.contains(at->second) &&
                            (to == moved.end() || tensors[to->second].name != at->first);
        if (to == moved.end() || isPart) {
            at = checkpoint.byName.erase(at);
        } else {
            at->second = to->second;
            ++at;
        }
    }
    checkpoint.tensors = std::move(tensors);
}

/// Some tools add a bias of zeros to every layer, which nothing is lost without.
bool isZeroBias(const TensorInfo* bias) {
    return bias &&
           std::ranges::all_of(bias->bytes.view(), [](std::byte b) { return b == std::byte(0); });
}

std::string knownMethods() {
    std::set<std::string> names;
    for (const Packing& packing : packings())
        names.insert(packing.method);
    return fmt::format("{}", fmt::join(names, ", "));
}

void unpackBy(Checkpoint& checkpoint, const std::string& method) {
    std::map<size_t, TensorInfo> weights;
    std::set<size_t> parts;
    for (const Packing& packing : packings()) {
        if (method != packing.method)
            continue;
        for (size_t i = 0; i < checkpoint.tensors.size(); ++i) {
            const std::string& name = checkpoint.tensors[i].name;
            if (!name.ends_with(packing.marker) || parts.contains(i))
                continue;
            PackedParts found(checkpoint,
                              name.substr(0, name.size() - std::strlen(packing.marker)));
            TensorInfo weight;
            weight.name = found.stem() + packing.suffix;
            weight.type = &packing.type;
            auto packed = std::make_shared<PackedWeight>(packing.read(found));
            packed->bytes = found.bytes();
            weight.dims = {packed->rows / packed->experts, packed->cols};
            if (packed->experts > 1)
                weight.dims.insert(weight.dims.begin(), packed->experts);
            weight.packed = std::move(packed);
            for (const std::string& part : found.used())
                parts.insert(checkpoint.byName.find(part)->second);
            if (const auto bias = checkpoint.byName.find(found.stem() + ".bias");
                bias != checkpoint.byName.end() && isZeroBias(&checkpoint.tensors[bias->second]))
                parts.insert(bias->second);
            weights.emplace(i, std::move(weight));
        }
    }
    replaceParts(checkpoint, std::move(weights), parts);
}

} // namespace

std::span<const Packing> packings() {
    static const Packing rows[] = {
        {"gptq", ".qweight", storedAs("gptq"), readGptq},
        {"awq", ".qweight", storedAs("awq"), readAwq},
        {"compressed-tensors", ".weight_packed", storedAs("pack-quantized"), readPackQuantized},
        {"compressed-tensors", ".weight_scale", storedAs("int-quantized"), readIntQuantized},
        {"bitsandbytes", ".weight.quant_state.bitsandbytes__nf4", storedAs("bitsandbytes nf4"),
         readNf4},
        {"bitsandbytes", ".weight.quant_state.bitsandbytes__fp4", storedAs("bitsandbytes fp4"),
         readFp4},
        {"bitsandbytes", ".SCB", storedAs("bitsandbytes int8"), readLlmInt8},
        {"mxfp4", "_blocks", storedAs("gpt-oss blocks"), readMxfp4, ""},
        {"mxfp4", "_scales", storedAs("gpt-oss blocks"), readMxfp4, ""}, // names missing blocks
    };
    return rows;
}

void unpackWeights(Checkpoint& checkpoint) {
    Metadata& metadata = checkpoint.metadata;
    const std::string prefix = kQuantizerConfig;
    // The name that compressed-tensors had for it at first.
    constexpr std::string_view kFormerly = "compression_config.";
    if (!metadata.has(prefix + "quant_method"))
        for (auto at = metadata.entries.lower_bound(kFormerly);
             at != metadata.entries.end() && at->first.starts_with(kFormerly); ++at)
            metadata.entries[prefix + at->first.substr(kFormerly.size())] = at->second;
    const std::string* method = metadata.findString(prefix + "quant_method");
    if (!method)
        return;
    const auto known = std::ranges::any_of(
        packings(), [&](const Packing& packing) { return *method == packing.method; });
    if (!known) {
        checkpoint.unsupported = fmt::format(
            "{}: the weights are quantized by \"{}\", which is not read here (read are {}, and "
            "GGUF "
            "files); choose another version of the model. It can be inspected.",
            printable(checkpoint.path.filename().string()), printable(*method), knownMethods());
        return;
    }
    try {
        unpackBy(checkpoint, std::string(*method));
    } catch (const UnreadPacking& error) {
        checkpoint.unsupported = error.what();
    }
}

const TensorInfo* PackedParts::find(const std::string& suffix) {
    const auto at = m_checkpoint.byName.find(m_stem + suffix);
    if (at == m_checkpoint.byName.end())
        return nullptr;
    const TensorInfo& part = m_checkpoint.tensors[at->second];
    if (std::ranges::find(m_used, part.name) == m_used.end()) {
        m_used.push_back(part.name);
        m_bytes += part.bytes.size();
    }
    return &part;
}

const TensorInfo& PackedParts::get(const std::string& suffix,
                                   std::initializer_list<const char*> types) {
    const TensorInfo* part = find(suffix);
    if (!part)
        fail(ErrorKind::BadInput,
             "{}: tensor \"{}\" is missing beside the others of its layer, so the weight cannot be "
             "read. Was a file not downloaded?",
             source(), printable(m_stem + suffix));
    const std::string expected = fmt::format("{}, not empty", fmt::join(types, " or "));
    if (part->values() <= 0 || std::ranges::none_of(types, [&](const char* type) {
            return std::string_view(type) == part->type->name;
        }))
        damaged(part->name, dimsText(*part), expected);
    return *part;
}

void PackedParts::require(const TensorInfo& part, std::initializer_list<int64_t> dims) const {
    if (!std::ranges::equal(part.dims, dims))
        damaged(part.name, dimsText(part), fmt::format("[{}]", fmt::join(dims, ", ")));
}

void PackedParts::damaged(const std::string& tensor, const std::string& found,
                          const std::string& expected) const {
    fail(ErrorKind::BadInput,
         "{}: tensor \"{}\" is {}, where {} is expected. The folder is damaged, or its config.json "
         "belongs to another model; download it again.",
         source(), printable(tensor), found, expected);
}

void PackedParts::badConfig(const std::string& key, const std::string& expected) const {
    const MetadataValue* value = metadata().find(kQuantizerConfig + key);
    fail(ErrorKind::BadInput,
         "{}: config.json: \"{}{}\" is {}, where {} is expected. Download the file again.",
         source(), kQuantizerConfig, printable(key), value ? describe(*value) : "missing",
         expected);
}

void PackedParts::unread(const std::string& what) const {
    throw UnreadPacking(fmt::format("{}: \"{}\" is {}, which is not read here; choose another "
                                    "version of the model. It can be inspected.",
                                    source(), printable(m_stem), what));
}

std::string PackedParts::source() const {
    auto path = m_checkpoint.path;
    if (!path.has_filename())
        path = path.parent_path();
    return printable(path.filename().string());
}

const Format* packedFormat(int bits, int64_t group, bool zeros, const BlockType& scales) {
    std::string name = fmt::format("int{}", bits);
    if (group != 0) {
        int64_t part = 256;
        while (part >= 16 && group % part != 0)
            part /= 2;
        name += fmt::format("_g{}", part);
    }
    name += zeros ? "z" : "";
    if (group != 0 && std::string_view(scales.name) != "f16")
        name += "_f32";
    return findFormat(name);
}

uint32_t packedScale(const TensorInfo& scales, int64_t index, const Format& format) {
    const std::string_view type = scales.type->name;
    if (type == "f32")
        return loadAt<uint32_t>(scales.bytes, index);
    const auto bits = loadAt<uint16_t>(scales.bytes, index);
    if (format.scale == ScaleKind::F16)
        return bits;
    return std::bit_cast<uint32_t>(type == "bf16" ? bfloatToFloat(bits) : halfToFloat(bits));
}

uint16_t halfScale(const Format& format, uint32_t raw) {
    return format.scale == ScaleKind::F16 ? static_cast<uint16_t>(raw)
                                          : floatToHalf(std::bit_cast<float>(raw));
}

std::shared_ptr<const std::vector<int32_t>> orderOfGroups(const std::vector<int32_t>& groups,
                                                          int64_t size, int64_t count,
                                                          const std::string& source,
                                                          const std::string& tensor) {
    std::vector<int64_t> columns(static_cast<size_t>(count));
    const auto cols = static_cast<int64_t>(groups.size());
    for (int64_t i = 0; i < cols; ++i) {
        const int32_t group = groups[static_cast<size_t>(i)];
        if (group < 0 || group >= count)
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" puts column {} into group {}, where a group from 0 to {} is "
                 "expected. The file is damaged; download it again.",
                 source, printable(tensor), i, group, count - 1);
        ++columns[static_cast<size_t>(group)];
    }
    for (int64_t group = 0; group < count; ++group)
        if (const int64_t expected = std::min(size, cols - group * size);
            columns[static_cast<size_t>(group)] != expected)
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" puts {} columns into group {}, where {} are expected. The file "
                 "is damaged; download it again.",
                 source, printable(tensor), columns[static_cast<size_t>(group)], group, expected);
    if (std::ranges::is_sorted(groups))
        return nullptr;
    std::vector<int32_t> order(groups.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, {},
                             [&](int32_t column) { return groups[static_cast<size_t>(column)]; });
    return std::make_shared<const std::vector<int32_t>>(std::move(order));
}

void plainCodes(const Tensor& tensor, int64_t row, uint8_t* out) {
    const auto cols = static_cast<size_t>(tensor.cols);
    std::vector<uint8_t> inPlanes(tensor.columnOrder ? cols : 0);
    uint8_t* codes = tensor.columnOrder ? inPlanes.data() : out;
    unpackCodes(tensor, row, codes);
    if (tensor.format->bits == 8)
        for (size_t i = 0; i < cols; ++i)
            codes[i] ^= 0x80;
    for (size_t j = 0; j < inPlanes.size(); ++j)
        out[(*tensor.columnOrder)[j]] = inPlanes[j];
}

uint32_t plainZero(const Tensor& tensor, int64_t row, int64_t group) {
    const Format& f = *tensor.format;
    return f.offset == OffsetKind::Zero ? rawOffset(tensor, row, group) : 1u << (f.bits - 1);
}

std::string refuseGroups(const Format& f, std::initializer_list<int> widths, int64_t cols) {
    const int middle = f.bits == 8 ? 0 : 1 << (f.bits - 1);
    const bool plain =
        f.code == CodeKind::Uniform && f.unit == 1 &&
        (f.scale == ScaleKind::F16 || f.scale == ScaleKind::F32) &&
        (f.offset == OffsetKind::Zero ? f.zero == (f.bits == 8 ? -128 : 0)
                                      : f.offset == OffsetKind::None && f.zero == middle);
    if (!plain || std::ranges::find(widths, int(f.bits)) == widths.end())
        return fmt::format("it holds integers of {} bits with a scale a group (int4_g128 and the "
                           "like)",
                           fmt::join(widths, ", "));
    if (f.group != 0 && f.group != 32 && f.group != 64 && f.group != 128)
        return "its engines run groups of 32, 64 or 128 values or whole rows";
    if (f.group != 0 && cols % f.group != 0)
        return fmt::format("groups of {} do not divide rows of {}", int(f.group), cols);
    return {};
}

} // namespace nibble
