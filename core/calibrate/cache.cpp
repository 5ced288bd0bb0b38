#include "core/calibrate/cache.h"

#include "core/base/cache_folder.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/checkpoint.h"
#include "core/files/gguf_format.h"
#include "core/model/names.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

// The files are GGUF files, so that the reader that is proof against damage reads them.

namespace nibble {
namespace {

constexpr const char* kIdentity = "calibration.identity";
constexpr const char* kHash = "calibration.hash"; ///< of all that is read at once
constexpr const char* kLayer = "calibration.layer";
constexpr const char* kNext = "calibration.next";
constexpr const char* kHidden = "hidden.";

/// The statistics of one input by the names that they have in files.
struct Part {
    const char* name;
    std::vector<float> InputStatistics::*values;
};
constexpr Part kParts[] = {
    {"mean_square", &InputStatistics::meanSquare}, {"mean_abs", &InputStatistics::meanAbs},
    {"abs_max", &InputStatistics::absMax},         {"percentiles", &InputStatistics::percentiles},
    {"samples", &InputStatistics::samples},
};

void putText(Metadata& metadata, const std::string& key, std::string value) {
    metadata.entries[key] = {.value = std::move(value), .storedType = gguf::kString};
}
void putCount(Metadata& metadata, const std::string& key, int64_t value) {
    metadata.entries[key] = {.value = value, .storedType = gguf::kI64};
}

template <typename T>
uint64_t hashOf(std::span<const T> values, uint64_t seed) {
    return hashBytes(std::as_bytes(values), seed);
}

uint64_t hashOf(const std::map<TensorKey, InputStatistics>& statistics) {
    uint64_t hash = hashText("");
    for (const auto& [key, each] : statistics) {
        hash = hashOf(std::span<const char>(tensorName(key)), hash);
        hash = hashOf(std::span<const int64_t>(&each.tokens, 1), hash);
        for (const Part& part : kParts)
            hash = hashOf(std::span<const float>(each.*part.values), hash);
    }
    return hash;
}

std::span<const float> rowFromDiagonal(const Moments& moments, size_t row) {
    const auto size = static_cast<size_t>(moments.size);
    return std::span(moments.values).subspan(row * size + row, size - row);
}

std::vector<float> triangleOf(const Moments& moments) {
    std::vector<float> out;
    const auto size = static_cast<size_t>(moments.size);
    out.reserve(size * (size + 1) / 2);
    for (size_t i = 0; i < size; ++i) {
        const auto row = rowFromDiagonal(moments, i);
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

/// A file's tensors, all vectors of float32.
class Writer {
public:
    void add(std::string name, size_t values, std::function<Bytes()> produce) {
        if (values == 0)
            return; // no file holds a tensor without values
        m_tensors.push_back({std::move(name),
                             {static_cast<int64_t>(values)},
                             blockTypeOf(getFormat("f32")),
                             values * sizeof(float)});
        m_produce.push_back(std::move(produce));
    }
    void write(const std::filesystem::path& path, const Metadata& metadata) const {
        writeGguf(path, metadata, m_tensors, [&](size_t index) { return m_produce[index](); });
    }

private:
    std::vector<GgufTensor> m_tensors;
    std::vector<std::function<Bytes()>> m_produce;
};

/// Bytes that live elsewhere while the file is written.
Bytes viewOf(std::span<const float> values) {
    return Bytes(nullptr, std::as_bytes(values));
}

std::vector<float> floatsOf(const TensorInfo* info) {
    std::vector<float> out;
    if (info) {
        out.resize(info->bytes.size() / sizeof(float));
        std::memcpy(out.data(), info->bytes.data(), out.size() * sizeof(float));
    }
    return out;
}

bool isF32(const TensorInfo& info) {
    return std::string_view(info.type->name) == "f32" && info.dims.size() == 1;
}

/// Null when it is absent, damaged or of other content.
std::shared_ptr<const Checkpoint> openOwn(const std::filesystem::path& path,
                                          const std::string& identity) {
    std::error_code absent;
    if (!std::filesystem::exists(path, absent))
        return nullptr;
    try {
        auto file = openCheckpoint(path);
        if (file->metadata.stringOr(kIdentity, {}) != identity ||
            !std::all_of(file->tensors.begin(), file->tensors.end(), isF32))
            return nullptr;
        return file;
    } catch (const Error&) {
        return nullptr;
    }
}

std::string inputName(TensorKey key) {
    return tensorName(key) + ".";
}

/// What a file says of one input's moments; nothing when it says nothing, or nonsense.
std::optional<StoredMoments> momentsIn(const Checkpoint& file, TensorKey key,
                                       const InputStatistics& statistics) {
    const TensorInfo* info = file.find(inputName(key) + "moments");
    const std::string hash = file.metadata.stringOr(inputName(key) + "moments_hash", {});
    StoredMoments out;
    out.size = statistics.channels();
    out.tokens = statistics.tokens;
    if (!info || info->values() != out.size * (out.size + 1) / 2 || hash.size() != 16)
        return {};
    out.hash = std::strtoull(hash.c_str(), nullptr, 16);
    out.triangle = info->bytes;
    return out;
}

uint64_t bytesIn(const std::filesystem::path& folder) {
    uint64_t bytes = 0;
    std::error_code gone;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, gone))
        if (const auto size = entry.file_size(gone); !gone)
            bytes += size;
    return bytes;
}

} // namespace

std::shared_ptr<const Moments> StoredMoments::read() const {
    if (hashBytes(triangle.view()) != hash)
        return nullptr;
    auto out = std::make_shared<Moments>();
    out->size = size;
    out->tokens = tokens;
    const auto n = static_cast<size_t>(size);
    out->values.resize(n * n);
    const std::byte* from = triangle.data();
    for (size_t i = 0; i < n; ++i) {
        std::memcpy(&out->values[i * n + i], from, (n - i) * sizeof(float));
        from += (n - i) * sizeof(float);
    }
    constexpr size_t kTile = 32; // square by square: columns are far apart in memory
    for (size_t top = 0; top < n; top += kTile)
        for (size_t left = 0; left <= top; left += kTile)
            for (size_t i = top; i < std::min(n, top + kTile); ++i)
                for (size_t j = left; j < std::min(i, left + kTile); ++j)
                    out->values[i * n + j] = out->values[j * n + i];
    return out;
}

CalibrationCache::CalibrationCache(const std::filesystem::path& root, std::string identity)
    : m_folder(root / hashName(hashText(identity))), m_identity(std::move(identity)) {
    std::error_code failed;
    std::filesystem::create_directories(m_folder, failed);
    // Rows of a user's own text can be guessed from what they did to the model.
    std::filesystem::permissions(root, std::filesystem::perms::owner_all, failed);
    keepWithin(root, kCalibrationCacheBytes, m_folder);
}

CalibrationCache CalibrationCache::open(std::string identity) {
    const std::filesystem::path folder = cacheFolder();
    return folder.empty() ? CalibrationCache()
                          : CalibrationCache(folder / "calibrations", std::move(identity));
}

std::filesystem::path CalibrationCache::layerFile(int32_t layer) const {
    return m_folder / fmt::format("layer-{:04}.gguf", layer);
}
std::filesystem::path CalibrationCache::hiddenFile() const {
    return m_folder / "hidden.gguf";
}

std::optional<StoredLayer> CalibrationCache::findLayer(int32_t layer, bool moments) const {
    const auto file = m_folder.empty() ? nullptr : openOwn(layerFile(layer), m_identity);
    if (!file || file->metadata.integerOr(kLayer, -1) != layer)
        return {};
    StoredLayer out;
    constexpr std::string_view kTokens = ".tokens";
    for (const auto& [name, value] : file->metadata.entries) {
        if (!name.ends_with(kTokens))
            continue;
        const auto key = tensorKey(std::string_view(name).substr(0, name.size() - kTokens.size()));
        const auto* tokens = std::get_if<int64_t>(&value.value);
        if (!key || !tokens)
            return {};
        InputStatistics& statistics = out.statistics[*key];
        statistics.tokens = *tokens;
        for (const Part& part : kParts)
            statistics.*part.values = floatsOf(file->find(inputName(*key) + part.name));
        auto stored = momentsIn(*file, *key, statistics);
        if (moments && !stored)
            return {};
        if (stored)
            out.moments[*key] = std::move(*stored);
    }
    if (out.statistics.empty() ||
        file->metadata.stringOr(kHash, {}) != hashName(hashOf(out.statistics)))
        return {};
    return out;
}

bool CalibrationCache::storeLayer(int32_t layer, const LayerInputs& inputs) const {
    if (m_folder.empty())
        return false;
    Metadata metadata;
    putText(metadata, kIdentity, m_identity);
    putCount(metadata, kLayer, layer);
    putText(metadata, kHash, hashName(hashOf(inputs.statistics)));
    Writer writer;
    for (const auto& [key, statistics] : inputs.statistics) {
        putCount(metadata, inputName(key) + "tokens", statistics.tokens);
        for (const Part& part : kParts) {
            const std::span<const float> values(statistics.*part.values);
            writer.add(inputName(key) + part.name, values.size(),
                       [values] { return viewOf(values); });
        }
    }
    for (const auto& [key, moments] : inputs.moments) {
        const auto size = static_cast<size_t>(moments->size);
        uint64_t hash = hashText("");
        for (size_t i = 0; i < size; ++i)
            hash = hashOf(rowFromDiagonal(*moments, i), hash);
        putText(metadata, inputName(key) + "moments_hash", hashName(hash));
        writer.add(inputName(key) + "moments", size * (size + 1) / 2,
                   [each = moments.get()] { return Bytes::of(triangleOf(*each)); });
    }
    try {
        writer.write(layerFile(layer), metadata);
        return true;
    } catch (const Error&) {
        return false; // a full disk: nothing is lost but the time to measure it again
    }
}

std::optional<StoredHidden> CalibrationCache::findHidden(size_t count) const {
    const auto file = m_folder.empty() ? nullptr : openOwn(hiddenFile(), m_identity);
    if (!file)
        return {};
    StoredHidden out;
    out.next = static_cast<int32_t>(file->metadata.integerOr(kNext, 0));
    uint64_t hash = hashText("");
    for (size_t i = 0; i < file->tensors.size(); ++i) {
        const TensorInfo* part = file->find(kHidden + std::to_string(i));
        if (!part)
            return {};
        hash = hashBytes(part->bytes.view(), hash);
        const auto values = floatsOf(part);
        out.rows.insert(out.rows.end(), values.begin(), values.end());
    }
    if (out.rows.size() != count || file->metadata.stringOr(kHash, {}) != hashName(hash))
        return {};
    return out;
}

void CalibrationCache::storeHidden(int32_t next, std::span<const float> rows, size_t windows,
                                   const Progress& progress) const {
    if (m_folder.empty() || rows.empty() || rows.size_bytes() > kHiddenCacheBytes)
        return;
    Metadata metadata;
    putText(metadata, kIdentity, m_identity);
    putCount(metadata, kNext, next);
    Writer writer;
    const size_t each = rows.size() / windows;
    uint64_t hash = hashText("");
    for (size_t i = 0; i < windows; ++i) {
        progress.check();
        const auto part = rows.subspan(i * each, each);
        hash = hashOf(part, hash);
        writer.add(kHidden + std::to_string(i), each, [&progress, part] {
            progress.check();
            return viewOf(part);
        });
    }
    putText(metadata, kHash, hashName(hash));
    try {
        writer.write(hiddenFile(), metadata);
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::Cancelled)
            throw;
    }
}

void CalibrationCache::complete() const {
    if (m_folder.empty())
        return;
    std::error_code failed;
    std::filesystem::remove(hiddenFile(), failed);
    std::filesystem::last_write_time(m_folder, std::filesystem::file_time_type::clock::now(),
                                     failed);
    keepWithin(m_folder.parent_path(), kCalibrationCacheBytes, m_folder);
}

void keepWithin(const std::filesystem::path& root, uint64_t limit,
                const std::filesystem::path& except) {
    struct Folder {
        std::filesystem::file_time_type used;
        std::filesystem::path path;
        uint64_t bytes = 0;
    };
    std::vector<Folder> others;
    uint64_t total = bytesIn(except);
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(root, gone)) {
        if (entry.path() == except)
            continue;
        others.push_back({entry.last_write_time(gone), entry.path(), bytesIn(entry.path())});
        total += others.back().bytes;
    }
    std::sort(others.begin(), others.end(),
              [](const Folder& a, const Folder& b) { return a.used < b.used; });
    for (const Folder& folder : others) {
        if (total <= limit)
            return;
        std::filesystem::remove_all(folder.path, gone);
        total -= folder.bytes;
    }
}

} // namespace nibble
