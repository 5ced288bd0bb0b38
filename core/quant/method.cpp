#include "core/quant/method.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/base/vector_width.h"
#include "core/quant/methods/awq.h"
#include "core/quant/methods/gptq.h"
#include "core/quant/methods/hqq.h"
#include "core/quant/methods/llm_int8.h"
#include "core/quant/methods/rtn.h"
#include "core/quant/methods/smoothquant.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

/// Values converted between two looks at the cancel flag.
constexpr int64_t kSlabValues = 1 << 22;

/// Largest magnitude that rounds to a finite value.
float largest(const Format& format) {
    return format.code == CodeKind::Float16 ? std::nextafter(65520.0f, 0.0f)
                                            : bfloatToFloat(0x7f7f);
}

/// Values as one of the float formats. A value that becomes infinite is an error, not a surprise
/// later.
Tensor convert(const QuantizeInput& input, const Format& format, const Progress& progress) {
    const bool single = format.code == CodeKind::Float32;
    const float limit = single ? 0 : largest(format);
    const auto count = static_cast<size_t>(input.rows * input.cols);
    std::vector<float> floats(single ? count : 0);
    std::vector<uint16_t> bits(single ? 0 : count);
    const auto toBits = format.code == CodeKind::Float16 ? floatToHalf : floatToBfloat;

    const auto convertRow = [&](int64_t row) {
        thread_local std::vector<float> values;
        values.resize(static_cast<size_t>(input.cols));
        input.values(row, row + 1, values.data());
        for (size_t i = 0; i < values.size(); ++i)
            if (!std::isfinite(values[i]) || (!single && std::abs(values[i]) > limit))
                fail(ErrorKind::BadInput,
                     "Tensor \"{}\" holds {} in row {}, column {}, which {} cannot hold. The model "
                     "is damaged, or needs another format.",
                     printable(input.name), values[i], row, i, format.name);
        const auto at = static_cast<ptrdiff_t>(row * input.cols);
        if (single)
            std::copy(values.begin(), values.end(), floats.begin() + at);
        else
            std::transform(values.begin(), values.end(), bits.begin() + at, toBits);
    };
    const int64_t slab = std::max<int64_t>(1, kSlabValues / std::max<int64_t>(1, input.cols));
    for (int64_t begin = 0; begin < input.rows; begin += slab) {
        progress.check();
        const int64_t end = std::min(input.rows, begin + slab);
        parallelFor(static_cast<size_t>(end - begin), 8, [&](size_t first, size_t last) {
            for (size_t i = first; i < last; ++i)
                convertRow(begin + static_cast<int64_t>(i));
        });
        progress.report(static_cast<double>(end), static_cast<double>(input.rows), input.name);
    }
    Tensor tensor;
    tensor.name = input.name;
    tensor.format = &format;
    tensor.rows = input.rows;
    tensor.cols = input.cols;
    tensor.codes = single ? Bytes::of(std::move(floats)) : Bytes::of(std::move(bits));
    return tensor;
}

/// Magnitudes compare like their bits, and without an exit in the middle the loop is quick.
NIBBLE_EVERY_VECTOR_WIDTH
bool areFinite(const float* values, int64_t count) {
    uint32_t most = 0;
    for (int64_t i = 0; i < count; ++i)
        most = std::max(most, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    return most < 0x7f800000u;
}

const Method kMethods[] = {kRtn, kAbsmax, kImatrix, kGptq, kAwq, kSmoothQuant, kHqq, kLlmInt8};

} // namespace

std::span<const Method> methods() {
    return kMethods;
}

const Method& getMethod(std::string_view name) {
    std::string known;
    for (const Method& method : methods()) {
        if (name == method.name)
            return method;
        known += (known.empty() ? "" : ", ") + std::string(method.name);
    }
    fail(ErrorKind::Usage, "There is no method \"{}\". Known methods: {}.", printable(name), known);
}

std::vector<float> channelWeights(const QuantizeInput& input) {
    std::vector<float> weights(static_cast<size_t>(input.cols), 1.0f);
    if (input.importance.empty())
        return weights;
    if (input.importance.size() != weights.size())
        fail(ErrorKind::BadInput,
             "The calibration of \"{}\" has {} channels, but the tensor has {}; calibrate this "
             "model again.",
             printable(input.name), input.importance.size(), input.cols);
    float most = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
        const float value = input.importance[i];
        if (!std::isfinite(value) || value < 0)
            fail(ErrorKind::BadInput,
                 "The calibration of \"{}\" holds {} for channel {}; calibrate this model again.",
                 printable(input.name), value, i);
        most = std::max(most, value);
    }
    if (most > 0)
        for (size_t i = 0; i < weights.size(); ++i)
            weights[i] = input.importance[i] / most;
    return weights;
}

void requireFinite(const QuantizeInput& input, int64_t row, std::span<const float> values) {
    if (areFinite(values.data(), static_cast<int64_t>(values.size())))
        return;
    for (size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
            fail(
                ErrorKind::BadInput,
                "Tensor \"{}\" holds {} in row {}, column {}; it cannot be quantized. The model is "
                "damaged: download it again.",
                printable(input.name), values[i], input.firstRow + row, i);
}

Tensor quantize(const QuantizeInput& input, const Format& format, const Method& method,
                const Progress& progress) {
    if (format.isFloat())
        return convert(input, format, progress);
    if (const char* reason = method.refuses(format))
        fail(ErrorKind::Usage, "{} cannot make {} (tensor \"{}\"): {}.", method.title, format.name,
             printable(input.name), reason);
    if (method.needs == Needs::Moments && !input.moments)
        fail(ErrorKind::Usage,
             "{} needs to know how the inputs of \"{}\" go together, which no importance matrix "
             "says; "
             "calibrate with a text.",
             method.title, printable(input.name));
    return method.quantize(input, format, progress);
}

Tensor quantize(const Tensor& base, const Format& format, const Method& method,
                std::span<const float> importance, const Progress& progress) {
    const QuantizeInput input{.name = base.name,
                              .rows = base.rows,
                              .cols = base.cols,
                              .values = [&base](int64_t begin, int64_t end,
                                                float* out) { decodeRows(base, begin, end, out); },
                              .importance = importance};
    Tensor tensor = quantize(input, format, method, progress);
    tensor.experts = base.experts;
    return tensor;
}

} // namespace nibble
