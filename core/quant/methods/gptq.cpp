#include "core/quant/methods/gptq.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/quant/polish.h"
#include "core/quant/row_block.h"
#include "core/quant/row_fit.h"

#include <algorithm>
#include <numeric>

namespace nibble {
namespace {

/// Of the mean diagonal, added to it: the value of the paper.
constexpr double kDamping = 0.01;

class Rounding {
public:
    Rounding(const QuantizeInput& input, const Format& format, const FeedbackFactor& factor,
             std::span<const float> weights, TensorBuilder& out)
        : m_input(input), m_format(format), m_factor(factor),
          m_polish(format, *input.moments, factor.damping), m_weights(weights), m_out(out) {}

    void round(int64_t first, int64_t count) const {
        const auto cols = static_cast<size_t>(m_input.cols);
        std::vector<float> values(static_cast<size_t>(count) * cols);
        m_input.values(first, first + count, values.data());
        std::vector<uint8_t> codes(static_cast<size_t>(count) * cols);
        std::vector<RowFit> fits;
        std::vector<RowGrid> grids;
        for (int64_t r = 0; r < count; ++r) {
            const auto row = std::span(values).subspan(static_cast<size_t>(r) * cols, cols);
            requireFinite(m_input, first + r, row);
            fits.push_back(
                fitRow(m_format, row, m_weights, codes.data() + static_cast<size_t>(r) * cols));
            grids.emplace_back(m_format, m_input.cols, fits.back());
        }
        std::vector<float> errors(cols * kBlockRows), decoded(values.size());
        float sums[kBlockRows];
        for (int64_t k = 0; k < m_input.cols; ++k) {
            sumColumns(m_factor.feedback.data() + static_cast<size_t>(k) * cols, errors.data(), k,
                       sums);
            const int32_t col = m_factor.order[static_cast<size_t>(k)];
            for (int64_t r = 0; r < count; ++r) {
                const size_t at = static_cast<size_t>(r) * cols + static_cast<size_t>(col);
                const RowGrid::Nearest nearest =
                    grids[static_cast<size_t>(r)].nearest(col, values[at] + sums[r]);
                codes[at] = nearest.code;
                decoded[at] = nearest.value;
                errors[static_cast<size_t>(k * kBlockRows + r)] = values[at] - nearest.value;
            }
        }
        m_polish.run({values, decoded, codes, fits, grids});
        for (int64_t r = 0; r < count; ++r)
            storeRow(m_out, first + r, fits[static_cast<size_t>(r)],
                     codes.data() + static_cast<size_t>(r) * cols);
    }

private:
    const QuantizeInput& m_input;
    const Format& m_format;
    const FeedbackFactor& m_factor;
    Polish m_polish;
    std::span<const float> m_weights;
    TensorBuilder& m_out;
};

/// Columns by the energy of their input, most first: those that follow make up for their errors.
std::vector<int32_t> byEnergy(const Moments& moments) {
    std::vector<int32_t> order(static_cast<size_t>(moments.size));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return moments.at(a, a) > moments.at(b, b); });
    return order;
}

Tensor quantizeGptq(const QuantizeInput& input, const Format& format, const Progress& progress) {
    const std::vector<float> weights = channelWeights(input);
    FeedbackFactor own;
    if (!input.feedback)
        own = gptqFeedback(*input.moments);
    progress.check();
    TensorBuilder builder(input.name, format, input.rows, input.cols);
    const Rounding rounding(input, format, input.feedback ? *input.feedback : own, weights,
                            builder);
    // Some 50 ms of work between two looks at the cancel flag.
    const int64_t slab = std::max<int64_t>(
        2 * kBlockRows, (int64_t(1) << 28) / (input.cols * input.cols) * kBlockRows);
    for (int64_t begin = 0; begin < input.rows; begin += slab) {
        const int64_t end = std::min(input.rows, begin + slab);
        parallelFor(static_cast<size_t>((end - begin + kBlockRows - 1) / kBlockRows), 1,
                    [&](size_t first, size_t last) {
                        for (size_t i = first; i < last && !progress.cancelled(); ++i) {
                            const int64_t row = begin + static_cast<int64_t>(i) * kBlockRows;
                            rounding.round(row, std::min(kBlockRows, end - row));
                        }
                    });
        progress.check();
        progress.report(static_cast<double>(end), static_cast<double>(input.rows), input.name);
    }
    return builder.finish();
}

} // namespace

FeedbackFactor gptqFeedback(const Moments& moments) {
    return factor(moments, byEnergy(moments), kDamping);
}

const Method kGptq{.name = "gptq",
                   .title = "GPTQ",
                   .refuses = cannotFit,
                   .quantize = quantizeGptq,
                   .needs = Needs::Moments,
                   .feedback = gptqFeedback};

} // namespace nibble
