#pragma once

#include "core/base/progress.h"
#include "core/model/config.h"
#include "core/quant/moments.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nibble {

/// The shares of a channel's values, in percent, whose largest magnitude is known.
inline constexpr double kPercentiles[] = {50, 90, 99, 99.9};

/// What the input of a matrix product looked like over all calibration tokens, channel by channel.
struct InputStatistics {
    int64_t tokens = 0;
    std::vector<float> meanSquare, meanAbs, absMax;
    /// Of |x|, [kPercentiles][channels], within 1/32 of themselves; empty in files from elsewhere.
    std::vector<float> percentiles;
    /// Every so many-th token's row as it was, [rows][channels].
    std::vector<float> samples;

    int64_t channels() const { return static_cast<int64_t>(meanSquare.size()); }
    int64_t sampleRows() const {
        return channels() == 0 ? 0 : static_cast<int64_t>(samples.size()) / channels();
    }
};

/// The tensor under whose key the input of this one is reported: products that share an input share
/// its statistics (Query for Key and Value, Gate for Up).
TensorKey inputKey(TensorKey key);

/// What a text did to a model's products: what methods that look at data are given.
struct Calibration {
    std::string text;                            ///< what it was measured on, for people
    uint64_t textHash = 0;                       ///< of the text
    int64_t tokens = 0;                          ///< read
    bool kept = false;                           ///< found on disk, as it was made before
    std::map<TensorKey, InputStatistics> inputs; ///< by inputKey()
    /// XᵀX / tokens of a product's input, or null where the source cannot give it (an imported
    /// file). Cheapest in the order of layers.
    std::function<std::shared_ptr<const Moments>(TensorKey key, const Progress& progress)> moments;

    /// Null when that product was not calibrated.
    const InputStatistics* find(TensorKey key) const;
    /// Error{Usage} that says what to do when there is none.
    const InputStatistics& get(TensorKey key) const;
};

} // namespace nibble
