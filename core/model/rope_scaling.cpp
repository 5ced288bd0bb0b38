#include "core/base/limits.h"
#include "core/model/config_reader.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble {

std::vector<float> llama3RopeFactors(const ModelConfig& config, double factor, double lowFactor,
                                     double highFactor, double originalContext) {
    std::vector<float> factors;
    for (int32_t i = 0; i < config.ropeDimensions / 2; ++i) {
        const double frequency =
            std::pow(double(config.rope.base), -2.0 * i / config.ropeDimensions);
        const double turns = originalContext * frequency / (2 * std::numbers::pi);
        if (turns > highFactor) {
            factors.push_back(1);
        } else if (turns < lowFactor) {
            factors.push_back(static_cast<float>(factor));
        } else {
            const double smooth = (turns - lowFactor) / (highFactor - lowFactor);
            factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
        }
    }
    return factors;
}

YarnSettings huggingFaceYarn(const ConfigReader& read, const ModelConfig& config) {
    YarnSettings yarn;
    yarn.factor = double(read.positive("rope_scaling.factor", 1));
    yarn.originalContext = double(read.countOr("rope_scaling.original_max_position_embeddings",
                                               config.contextLength, INT32_MAX));
    yarn.betaFast = double(read.positive("rope_scaling.beta_fast", 32));
    yarn.betaSlow = double(read.positive("rope_scaling.beta_slow", 1));
    yarn.wholePairs = read.metadata.booleanOr("rope_scaling.truncate", true);
    yarn.magnitude =
        double(read.positive("rope_scaling.attention_factor", 1 + 0.1 * std::log(yarn.factor)));
    return yarn;
}

void applyYarn(ModelConfig& config, const YarnSettings& yarn) {
    const int32_t dims = config.ropeDimensions, pairs = dims / 2;
    // The pair that turns `turns` times within the original context.
    const auto pairOf = [&](double turns) {
        return dims * std::log(yarn.originalContext / (turns * 2 * std::numbers::pi)) /
               (2 * std::log(double(config.rope.base)));
    };
    double low = pairOf(yarn.betaFast), high = pairOf(yarn.betaSlow);
    if (yarn.wholePairs)
        low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, double(dims - 1));
    config.rope.factors.resize(static_cast<size_t>(pairs));
    for (int32_t i = 0; i < pairs; ++i) {
        const double slow = std::clamp((i - low) / std::max(high - low, 0.001), 0.0, 1.0);
        config.rope.factors[static_cast<size_t>(i)] =
            static_cast<float>(1 / (slow / yarn.factor + (1 - slow)));
    }
    config.rope.magnitude = static_cast<float>(yarn.magnitude);
    config.yarn = yarn;
}

void readLongRope(const ConfigReader& read, ModelConfig& config) {
    const auto factors = [&](const char* name) {
        std::vector<float> found;
        if (const auto* values = read.metadata.findFloats(name))
            found = *values;
        else if (const auto* whole = read.metadata.findIntegers(name))
            found.assign(whole->begin(), whole->end());
        if (found.size() != static_cast<size_t>(config.ropeDimensions / 2) ||
            !std::ranges::all_of(found, [](float f) { return f > 0 && std::isfinite(f); }))
            fail(ErrorKind::BadInput,
                 "{}: \"{}\" must hold {} positive factors, one for each pair that rotates.",
                 printable(read.metadata.source), name, config.ropeDimensions / 2);
        return found;
    };
    config.rope.factors = factors("rope_scaling.short_factor");
    config.longFactors = factors("rope_scaling.long_factor");
    config.originalContext = read.metadata.integerOr("original_max_position_embeddings", 0) > 0
                                 ? read.count("original_max_position_embeddings", INT32_MAX)
                                 : read.countOr("rope_scaling.original_max_position_embeddings",
                                                config.contextLength, INT32_MAX);
    const double stretched =
        std::max(1.0, double(config.contextLength) / double(config.originalContext));
    config.rope.magnitude = read.positive(
        "rope_scaling.attention_factor",
        std::sqrt(1 + std::log(stretched) / std::log(double(config.originalContext))));
}

} // namespace nibble
