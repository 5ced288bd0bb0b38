#include "core/quant/methods/hqq.h"

#include "core/base/half.h"
#include "core/base/parallel.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

/// As in the authors' program: exponent of the error's norm, penalty and its growth, rounds.
constexpr float kNorm = 0.7f, kBetaGrowth = 1.01f;
constexpr int kRounds = 20;

const char* refusesHqq(const Format& format) {
    if (format.code != CodeKind::Uniform || format.offset != OffsetKind::Value ||
        format.scale != ScaleKind::F16)
        return "it chooses float zero points, so that only formats with a scale and an offset for "
               "each group fit (hqq4, hqq3, hqq2, q4_1, q5_1)";
    return nullptr;
}

/// sign(x) · max(0, |x| − |x|^(p−1) / β): what is large stays, what is small becomes 0.
float shrink(float x, float beta) {
    const float magnitude = std::abs(x);
    if (magnitude == 0)
        return 0;
    return std::copysign(std::max(0.0f, magnitude - std::pow(magnitude, kNorm - 1) / beta), x);
}

struct Fit {
    float scale = 0, offset = 0; ///< as stored
};

/// Scale from the range; the zero point in turns with the errors that are kept. The round with the
/// least error wins.
Fit fitGroup(const float* x, size_t count, int bits, uint8_t* codes) {
    const auto [low, high] = std::minmax_element(x, x + count);
    const float most = static_cast<float>((1 << bits) - 1);
    Fit fit;
    fit.scale = halfToFloat(floatToHalf((*high - *low) / most));
    if (fit.scale == 0) {
        fit.offset = halfToFloat(floatToHalf(*low));
        std::fill_n(codes, count, uint8_t(0));
        return fit;
    }
    const auto code = [&](float value, float offset) {
        return std::clamp(std::round((value - offset) / fit.scale), 0.0f, most);
    };
    // The authors' β assumes weights of ordinary size; relative to the step it is free of units.
    float beta = 10, offset = *low, least = HUGE_VALF;
    fit.offset = halfToFloat(floatToHalf(offset));
    for (int round = 0; round < kRounds; ++round) {
        double error = 0, sum = 0;
        const float stored = halfToFloat(floatToHalf(offset));
        for (size_t i = 0; i < count; ++i) {
            const float value = fit.scale * code(x[i], stored) + stored;
            error += std::abs(double(x[i]) - double(value));
        }
        if (error >= double(least))
            break;
        least = static_cast<float>(error);
        fit.offset = stored;
        for (size_t i = 0; i < count; ++i) {
            const float q = code(x[i], stored);
            const float difference = (x[i] - (fit.scale * q + stored)) / fit.scale;
            const float kept = shrink(difference, beta) * fit.scale;
            sum += double(x[i] - kept) - double(fit.scale * q);
        }
        offset = static_cast<float>(sum / static_cast<double>(count));
        beta *= kBetaGrowth;
    }
    for (size_t i = 0; i < count; ++i)
        codes[i] = static_cast<uint8_t>(code(x[i], fit.offset));
    return fit;
}

Tensor quantizeHqq(const QuantizeInput& input, const Format& format, const Progress& progress) {
    TensorBuilder builder(input.name, format, input.rows, input.cols);
    const int64_t length = format.groupLength(input.cols);
    const int64_t slab = std::max<int64_t>(1, (1 << 18) / std::max<int64_t>(1, input.cols));
    for (int64_t begin = 0; begin < input.rows; begin += slab) {
        const int64_t end = std::min(input.rows, begin + slab);
        parallelFor(static_cast<size_t>(end - begin), 1, [&](size_t first, size_t last) {
            std::vector<float> values(static_cast<size_t>(input.cols));
            std::vector<uint8_t> codes(values.size());
            for (size_t i = first; i < last && !progress.cancelled(); ++i) {
                const int64_t row = begin + static_cast<int64_t>(i);
                input.values(row, row + 1, values.data());
                requireFinite(input, row, values);
                for (int64_t group = 0; group < format.groupCount(input.cols); ++group) {
                    const auto at = static_cast<size_t>(group * length);
                    const auto count =
                        static_cast<size_t>(std::min(length, input.cols - group * length));
                    const Fit fit =
                        fitGroup(values.data() + at, count, format.bits, codes.data() + at);
                    builder.setScale(row, group, floatToHalf(fit.scale));
                    builder.setOffset(row, group, floatToHalf(fit.offset));
                }
                builder.setCodes(row, codes.data());
            }
        });
        progress.check();
        progress.report(static_cast<double>(end), static_cast<double>(input.rows), input.name);
    }
    return builder.finish();
}

} // namespace

const Method kHqq{.name = "hqq", .title = "HQQ", .refuses = refusesHqq, .quantize = quantizeHqq};

} // namespace nibble
