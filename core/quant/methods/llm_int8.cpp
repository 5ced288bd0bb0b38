#include "core/quant/methods/llm_int8.h"

#include "core/base/error.h"
#include "core/quant/methods/rtn.h"
#include "core/quant/row_fit.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <functional>

namespace nibble {
namespace {

const char* refusesLlmInt8(const Format& format) {
    if (!zeroCodeIsZero(format) || format.bits != 8)
        return "it keeps some columns beside 8-bit codes, which needs a format of 8 bits without "
               "offsets (int8, int8_g128, int8_g32, q8_0)";
    return cannotFit(format);
}

/// At most one column in so many is kept, those with the largest inputs: where nearly all reach the
/// threshold once, as the inputs of second feed-forward matrices may, 16 bits for each of them
/// would be another level. What the others hold is found while running.
constexpr int64_t kMostShare = 32;

int64_t mostColumns(int64_t cols) {
    return (cols + kMostShare - 1) / kMostShare;
}

int64_t outlierCount(std::span<const float> inputMax, int64_t cols, float threshold) {
    const int64_t most = mostColumns(cols);
    return inputMax.empty()
               ? most
               : std::min<int64_t>(most, std::ranges::count_if(inputMax, [&](float largest) {
                                       return largest >= threshold;
                                   }));
}

std::vector<int32_t> outlierColumns(const QuantizeInput& input) {
    if (input.inputMax.size() != static_cast<size_t>(input.cols))
        fail(ErrorKind::Usage,
             "LLM.int8() has to know how large the inputs of \"{}\" get, and this calibration does "
             "not say; calibrate the model with a text.",
             printable(input.name));
    const auto largest = [&](int32_t column) {
        return input.inputMax[static_cast<size_t>(column)];
    };
    std::vector<int32_t> columns;
    for (int32_t i = 0; i < static_cast<int32_t>(input.cols); ++i)
        if (largest(i) >= input.outlierThreshold)
            columns.push_back(i);
    const auto most = static_cast<size_t>(mostColumns(input.cols));
    if (columns.size() > most) {
        std::ranges::stable_sort(columns, std::greater{}, largest);
        columns.resize(most);
        std::ranges::sort(columns);
    }
    return columns;
}

Tensor quantizeLlmInt8(const QuantizeInput& input, const Format& format, const Progress& progress) {
    const std::vector<int32_t> columns = outlierColumns(input);
    if (columns.empty())
        return quantizeRtn(input, format, progress);
    QuantizeInput rest = input, kept = input;
    rest.values = [&](int64_t begin, int64_t end, float* out) {
        input.values(begin, end, out);
        for (int64_t row = 0; row < end - begin; ++row)
            for (const int32_t column : columns)
                out[row * input.cols + column] = 0;
    };
    kept.cols = static_cast<int64_t>(columns.size());
    kept.values = [&](int64_t begin, int64_t end, float* out) {
        std::vector<float> row(static_cast<size_t>(input.cols));
        for (int64_t i = begin; i < end; ++i) {
            input.values(i, i + 1, row.data());
            for (const int32_t column : columns)
                *out++ = row[static_cast<size_t>(column)];
        }
    };
    const Tensor halves = quantize(kept, getFormat("f16"), kLlmInt8, {});
    Tensor made = quantizeRtn(rest, format, progress);
    made.outliers = halves.codes;
    made.outlierColumns = std::make_shared<const std::vector<int32_t>>(columns);
    return made;
}

} // namespace

const Method kLlmInt8{.name = "llm_int8",
                      .title = "LLM.int8()",
                      .refuses = refusesLlmInt8,
                      .quantize = quantizeLlmInt8,
                      .needs = Needs::Statistics,
                      .outlierCount = outlierCount};

} // namespace nibble
