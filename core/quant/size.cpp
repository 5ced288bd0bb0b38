#include "core/quant/recipe.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

uint64_t exactBytes(const Format& format, int64_t rows, int64_t cols) {
    const double rowBits = format.bitsPerWeight(cols) * static_cast<double>(cols);
    return (static_cast<uint64_t>(std::llround(rowBits)) * static_cast<uint64_t>(rows) + 7) / 8;
}

uint64_t planeBytes(const Format& format, int64_t rows, int64_t cols) {
    if (format.isFloat())
        return static_cast<uint64_t>(rows * cols) * format.bits / 8;
    const int64_t codes = (cols + 31) / 32 * 4 * format.bits;
    const int64_t groups = format.groupCount(cols) * (scaleBytes(format) + offsetBytes(format));
    const int64_t supers = format.superCount(cols) * ((format.scale == ScaleKind::Code ? 2 : 0) +
                                                      (format.offset == OffsetKind::Code ? 2 : 0));
    return static_cast<uint64_t>(rows * (codes + groups + supers));
}

/// What a tensor runs as; types without a format count as f16.
const Format& formatOf(const Model& model, const Recipe& recipe, TensorKey key) {
    if (const Format* format = recipe.choose(model, key).format)
        return *format;
    const Format* base = model.get(key).format();
    return base ? *base : getFormat("f16");
}

/// Halves and indices of the columns that the method keeps beside the codes.
uint64_t outlierBytes(const Model& model, const Recipe& recipe, TensorKey key,
                      const Calibration* calibration, bool* isEstimated = nullptr) {
    const TensorChoice choice = recipe.choose(model, key);
    const TensorInfo& info = model.get(key);
    // A table that is only looked up in is not calibrated, but rounded (see Quantizer::made()).
    const bool lookedUp = key.role == Role::TokenEmbedding && model.headKey() != key;
    if (!choice.format || choice.format->isFloat() || choice.format == info.format() ||
        !choice.method || !choice.method->keepsOutliers() || lookedUp)
        return 0;
    const InputStatistics* inputs = calibration ? calibration->find(key) : nullptr;
    const std::span<const float> largest = inputs ? inputs->absMax : std::span<const float>();
    if (isEstimated && largest.empty())
        *isEstimated = true;
    const auto count = static_cast<uint64_t>(
        choice.method->outlierCount(largest, info.cols(), choice.outlierThreshold));
    return count * (static_cast<uint64_t>(info.rows()) * 2 + 4);
}

} // namespace

uint64_t recipeBytes(const Model& model, const Recipe& recipe, TensorKey key,
                     const Calibration* calibration) {
    const TensorInfo& info = model.get(key);
    return planeBytes(formatOf(model, recipe, key), info.rows(), info.cols()) +
           outlierBytes(model, recipe, key, calibration);
}

// A tensor that the recipe leaves alone stays as it is stored.
uint64_t recipeFileBytes(const Model& model, const Recipe& recipe, TensorKey key,
                         const Calibration* calibration) {
    const TensorInfo& info = model.get(key);
    if (info.storedBytes() > 0 && !recipe.choose(model, key).format)
        return info.storedBytes();
    return exactBytes(formatOf(model, recipe, key), info.rows(), info.cols()) +
           outlierBytes(model, recipe, key, calibration);
}

RecipeSize recipeSize(const Model& model, const Recipe& recipe, const Calibration* calibration) {
    RecipeSize size;
    int64_t values = 0;
    for (const TensorKey key : model.keys()) {
        const TensorInfo& info = model.get(key);
        size.bytes += recipeFileBytes(model, recipe, key, calibration);
        size.residentBytes += recipeBytes(model, recipe, key, calibration);
        outlierBytes(model, recipe, key, calibration, &size.isUpperBound);
        values += info.values();
    }
    if (values > 0)
        size.bitsPerWeight = static_cast<double>(size.bytes) * 8 / static_cast<double>(values);
    return size;
}

} // namespace nibble
