#pragma once

#include "core/base/bytes.h"
#include "core/base/progress.h"
#include "core/calibrate/collector.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// All calibrations together keep to this much of the disk: those that were not used for the
/// longest time are removed first. One that is being made may exceed it until it is done.
inline constexpr uint64_t kCalibrationCacheBytes = 4ull << 30;
/// Hidden rows larger than this are not kept: who resumes computes them again, which costs less
/// than what is measured on the way.
inline constexpr uint64_t kHiddenCacheBytes = 256ull << 20;

/// Second moments in a mapped file: read when a method asks.
struct StoredMoments {
    int64_t size = 0, tokens = 0;
    uint64_t hash = 0;
    Bytes triangle; ///< of float32, row by row from the diagonal on

    /// Null when the file has been damaged.
    std::shared_ptr<const Moments> read() const;
};

/// One layer's part as it lies on disk.
struct StoredLayer {
    std::map<TensorKey, InputStatistics> statistics;
    std::map<TensorKey, StoredMoments> moments;
};

/// The hidden rows of all windows when the layers before `next` are done.
struct StoredHidden {
    int32_t next = 0;
    std::vector<float> rows;
};

/// A calibration on disk, layer by layer, so that what is done is never lost: a folder with one
/// file a layer, and the hidden rows until it is complete. Whatever is damaged, of other content
/// or cannot be written is as good as absent.
class CalibrationCache {
public:
    /// Keeps nothing.
    CalibrationCache() = default;
    /// `identity` says all that the result depends on; `root` holds all calibrations.
    CalibrationCache(const std::filesystem::path& root, std::string identity);
    /// In cacheFolder(), or nowhere when that cannot be written.
    static CalibrationCache open(std::string identity);

    /// Nothing when it has to be made, also when `moments` are wanted and it has none.
    std::optional<StoredLayer> findLayer(int32_t layer, bool moments) const;
    /// False when it could not be kept.
    bool storeLayer(int32_t layer, const LayerInputs& inputs) const;

    /// With `count` values; nothing when there are none.
    std::optional<StoredHidden> findHidden(size_t count) const;
    /// `windows` equal parts, so that a cancel is heard while they are written.
    void storeHidden(int32_t next, std::span<const float> rows, size_t windows,
                     const Progress& progress) const;

    /// All layers are there: drops what was only for going on, and older calibrations.
    void complete() const;
    const std::filesystem::path& folder() const { return m_folder; }

private:
    std::filesystem::path layerFile(int32_t layer) const;
    std::filesystem::path hiddenFile() const;

    std::filesystem::path m_folder; ///< empty = keeps nothing
    std::string m_identity;
};

/// Removes folders inside `root` other than `except`, those first that were not changed for the
/// longest time, until all together take at most `limit` bytes.
void keepWithin(const std::filesystem::path& root, uint64_t limit,
                const std::filesystem::path& except);

} // namespace nibble
