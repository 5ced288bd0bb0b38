#include "core/calibrate/imatrix.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/mapped_file.h"
#include "core/files/gguf_format.h"
#include "core/model/names.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nibble {
namespace {

/// Tokens of a call, which the older container does not say: llama-imatrix's default.
constexpr int64_t kOldChunk = 512;
constexpr int64_t kMostEntries = 100000, kMostName = 256, kMostChannels = 1 << 24;

/// Reads llama.cpp's older container, in order and within bounds.
class OldReader {
public:
    OldReader(const Bytes& bytes, std::string file) : m_bytes(bytes), m_file(std::move(file)) {}

    template <typename T>
    T take(const char* what) {
        T value;
        std::memcpy(&value, range(sizeof(T), what).data(), sizeof(T));
        return value;
    }
    std::span<const std::byte> range(uint64_t count, const char* what) {
        if (count > m_bytes.size() - m_at)
            fail(ErrorKind::BadInput, "{} ends within {}; it is incomplete: make or copy it again.",
                 printable(m_file), what);
        const auto part = m_bytes.view().subspan(m_at, count);
        m_at += count;
        return part;
    }
    int64_t count(const char* what, int64_t least, int64_t most) {
        const auto value = take<int32_t>(what);
        if (value < least || value > most)
            fail(ErrorKind::BadInput,
                 "{}: {} is {}, and should be {} to {}; is it an imatrix file?", printable(m_file),
                 what, value, least, most);
        return value;
    }

private:
    const Bytes& m_bytes;
    std::string m_file;
    size_t m_at = 0;
};

/// What a file says of one tensor's input.
struct Entry {
    std::vector<float> meanSquare, absMax, meanAbs, percentiles;
    int64_t tokens = 0;
};
using Entries = std::map<std::string, Entry, std::less<>>;

Entries readOld(const Bytes& bytes, const std::string& file) {
    OldReader reader(bytes, file);
    Entries entries;
    const int64_t count = reader.count("the number of entries", 1, kMostEntries);
    for (int64_t i = 0; i < count; ++i) {
        const auto name = reader.range(
            static_cast<uint64_t>(reader.count("the length of a name", 1, kMostName)), "a name");
        const int64_t calls = reader.count("the number of calls", 0, INT32_MAX);
        const int64_t values = reader.count("the number of values", 1, kMostChannels);
        const auto raw = reader.range(static_cast<uint64_t>(values) * sizeof(float), "values");
        Entry& entry =
            entries[std::string(reinterpret_cast<const char*>(name.data()), name.size())];
        entry.meanSquare.resize(static_cast<size_t>(values));
        std::memcpy(entry.meanSquare.data(), raw.data(), raw.size());
        entry.tokens = calls * kOldChunk;
        if (calls > 0)
            for (float& value : entry.meanSquare)
                value /= static_cast<float>(calls);
    }
    return entries;
}

std::vector<float> floats(const Checkpoint& file, std::string_view name) {
    const TensorInfo* info = file.find(name);
    if (!info)
        return {};
    if (std::string_view(info->type->name) != "f32")
        fail(ErrorKind::BadInput, "{}: \"{}\" is {}, and should be f32.",
             printable(file.path.string()), printable(std::string(name)), info->type->name);
    return decode(loadTensor(*info));
}

/// The percentages of the percentiles in the file; ours, where it was written here.
constexpr const char* kPercentilesKey = "nibble.calibration.percentiles";

MetadataValue::Floats percentages() {
    return {std::begin(kPercentiles), std::end(kPercentiles)};
}

Entries readNew(const Checkpoint& file) {
    Entries entries;
    const MetadataValue::Floats* percentiles = file.metadata.findFloats(kPercentilesKey);
    const bool known = percentiles && *percentiles == percentages();
    constexpr std::string_view kSums = ".in_sum2";
    for (const TensorInfo& info : file.tensors) {
        if (!info.name.ends_with(kSums))
            continue;
        const std::string name = info.name.substr(0, info.name.size() - kSums.size());
        Entry& entry = entries[name];
        entry.meanSquare = floats(file, info.name);
        const std::vector<float> counts = floats(file, name + ".counts");
        if (counts.empty() || counts.front() <= 0)
            fail(ErrorKind::BadInput, "{}: \"{}\" has sums but no count of tokens.",
                 printable(file.path.string()), printable(name));
        entry.tokens = static_cast<int64_t>(counts.front());
        for (float& value : entry.meanSquare)
            value /= counts.front();
        entry.absMax = floats(file, name + ".in_absmax");
        entry.meanAbs = floats(file, name + ".in_absmean");
        if (known)
            entry.percentiles = floats(file, name + ".in_percentiles");
    }
    return entries;
}

bool isGguf(const Bytes& bytes) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), gguf::kMagic.data(), 4) == 0;
}

void put(Metadata& metadata, const char* key, decltype(MetadataValue::value) value, uint32_t type) {
    metadata.entries[key] = {.value = std::move(value), .storedType = type};
}

} // namespace

bool isImatrix(const std::filesystem::path& path) {
    const Bytes bytes = mapFile(path);
    if (isGguf(bytes))
        return true;
    // The older form starts with two small numbers and a tensor's name; no text has zero bytes.
    if (bytes.size() < 16)
        return false;
    int32_t count = 0, length = 0;
    std::memcpy(&count, bytes.data(), 4);
    std::memcpy(&length, bytes.data() + 4, 4);
    return count > 0 && count <= kMostEntries && length > 0 && length <= kMostName;
}

std::shared_ptr<const Calibration> readImatrix(const Model& model,
                                               const std::filesystem::path& path) {
    const Bytes bytes = mapFile(path);
    const std::string file = path.filename().string();
    const Entries entries = isGguf(bytes) ? readNew(*openCheckpoint(path)) : readOld(bytes, file);
    auto calibration = std::make_shared<Calibration>();
    calibration->text = file;
    calibration->textHash = hashBytes(bytes.view());
    for (const TensorKey key : model.keys()) {
        if (!isMatrix(key.role) || (key.role == Role::TokenEmbedding && model.headKey() != key))
            continue;
        const std::string name = tensorName(key) + ".weight";
        auto at = entries.find(name);
        if (at == entries.end() && key == model.headKey())
            at = entries.find("output.weight");
        if (at == entries.end())
            continue;
        const Entry& entry = at->second;
        InputStatistics& out = calibration->inputs[inputKey(key)];
        const auto channels = static_cast<size_t>(model.get(key).cols());
        if (entry.meanSquare.size() != channels)
            fail(ErrorKind::BadInput,
                 "{} has {} channels for \"{}\", but the model has {}; it was made for another "
                 "model.",
                 printable(file), entry.meanSquare.size(), printable(name), channels);
        for (const float value : entry.meanSquare)
            if (!std::isfinite(value) || value < 0)
                fail(ErrorKind::BadInput, "{} holds {} for \"{}\"; it is damaged: make it again.",
                     printable(file), value, printable(name));
        out.tokens = entry.tokens;
        out.meanSquare = entry.meanSquare;
        if (entry.absMax.size() == channels)
            out.absMax = entry.absMax;
        if (entry.percentiles.size() == channels * std::size(kPercentiles))
            out.percentiles = entry.percentiles;
        out.meanAbs = entry.meanAbs.size() == channels ? entry.meanAbs : std::vector<float>{};
        if (out.meanAbs.empty()) // of a normal distribution with that energy
            for (const float square : out.meanSquare)
                out.meanAbs.push_back(std::sqrt(square * 0.6366198f));
        calibration->tokens = std::max(calibration->tokens, entry.tokens);
    }
    if (calibration->inputs.empty())
        fail(ErrorKind::BadInput,
             "{} names no tensor of {}; it was made for a model of another kind.", printable(file),
             printable(model.name));
    return calibration;
}

void writeImatrix(const Model& model, const Calibration& calibration,
                  const std::filesystem::path& path) {
    Metadata metadata;
    put(metadata, "general.type", std::string("imatrix"), gguf::kString);
    metadata.entries["imatrix.datasets"] = {.value = MetadataValue::Strings{calibration.text},
                                            .storedType = gguf::kArray,
                                            .storedElementType = gguf::kString};
    put(metadata, "imatrix.chunk_count", calibration.tokens / 512, gguf::kU32);
    put(metadata, "imatrix.chunk_size", int64_t(512), gguf::kU32);
    put(metadata, "nibble.calibration.hash", hashName(calibration.textHash), gguf::kString);
    metadata.entries[kPercentilesKey] = {
        .value = percentages(), .storedType = gguf::kArray, .storedElementType = gguf::kF32};
    const BlockType* f32 = blockTypeOf(getFormat("f32"));
    std::vector<GgufTensor> tensors;
    std::vector<std::vector<float>> contents;
    const auto add = [&](const std::string& name, std::vector<float> values) {
        if (values.empty())
            return;
        tensors.push_back(
            {name, {static_cast<int64_t>(values.size())}, f32, values.size() * sizeof(float)});
        contents.push_back(std::move(values));
    };
    for (const TensorKey key : model.keys()) {
        const InputStatistics* statistics = isMatrix(key.role) ? calibration.find(key) : nullptr;
        if (!statistics || (key.role == Role::TokenEmbedding && model.headKey() != key))
            continue;
        const std::string name = tensorName(key) + ".weight";
        std::vector<float> sums = statistics->meanSquare;
        for (float& value : sums)
            value *= static_cast<float>(statistics->tokens);
        add(name + ".in_sum2", std::move(sums));
        add(name + ".counts", {static_cast<float>(statistics->tokens)});
        add(name + ".in_absmax", statistics->absMax);
        add(name + ".in_absmean", statistics->meanAbs);
        add(name + ".in_percentiles", statistics->percentiles);
    }
    writeGguf(path, metadata, tensors, [&](size_t index) { return Bytes::of(contents[index]); });
}

} // namespace nibble
