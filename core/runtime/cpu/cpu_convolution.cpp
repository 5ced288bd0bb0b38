#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/model/names.h"
#include "core/runtime/cpu/cpu_stage.h"
#include "core/runtime/memory.h"

#include <algorithm>

namespace nibble {

size_t CpuStage::pageBytes(int32_t layer) const {
    if (!m_options.mixes(layer))
        return 0;
    return m_config.layer(layer).mixer == Mixer::Convolution ? statePageBytes(m_config)
                                                             : m_layout.pageBytes();
}

/// Where b · x of a position is kept for later calls.
float* CpuStage::state(int32_t layer, int32_t sequence, int32_t position) {
    const int32_t page = m_batch->sequences[size_t(sequence)][size_t(position / kPageTokens)];
    return reinterpret_cast<float*>(pages(layer) + pageBytes(layer) * size_t(page)) +
           int64_t(position % stateSlots(m_config)) * m_config.width;
}

/// hidden += out · (c · Σ taps[t] · (b · x) of the token `t` places back), with b, c and x from one
/// product of the normed row.
void CpuStage::convolution(int32_t layer) {
    const int32_t width = m_config.width, taps = m_config.convolutionTaps;
    const int64_t stride = int64_t(3) * width;
    normRows({m_allRows.data(), size_t(rows())}, vector(Role::AttentionNorm, layer),
             vector(Role::AttentionNormBias, layer));
    tap(TapSite::What::ProductInput, {Role::ConvolutionIn, layer}, m_input);
    const CpuMatrix& in = matrix(Role::ConvolutionIn, layer);
    const float* filter = vector(Role::Convolution, layer);
    if (!filter)
        fail(ErrorKind::Internal, "Tensor \"{}\" was not loaded before running.",
             tensorName({Role::Convolution, layer}));
    const Inputs inputs = prepare(m_input, {&in});
    const auto multiply = [&](size_t begin, size_t end) {
        in.multiply(*inputs[0], int64_t(begin), int64_t(end), m_gates.data(), stride);
    };
    parallelFor(size_t(in.units()), 1, std::ref(multiply));

    m_input.begin(rows(), width);
    // By channels: rows later in the call see those before them.
    const auto convolve = [&](size_t begin, size_t end) {
        const auto from = int32_t(begin), to = int32_t(end);
        for (int32_t row = 0, first = 0; row < rows(); ++row) {
            const BatchRow& at = m_batch->rows[size_t(row)];
            if (at.sequence != m_batch->rows[size_t(first)].sequence)
                first = row;
            float* gates = m_gates.data() + row * stride;
            float* out = m_input.row(row);
            for (int32_t i = from; i < to; ++i)
                gates[2 * width + i] *= gates[i]; // b · x, which later rows look for here
            std::fill(out + from, out + to, 0.0f);
            for (int32_t back = taps - 1; back >= 0; --back) {
                if (back > at.position)
                    continue;
                const float* seen = row - back >= first
                                        ? gates - back * stride + 2 * width
                                        : state(layer, at.sequence, at.position - back);
                for (int32_t i = from; i < to; ++i)
                    out[i] += filter[int64_t(i) * taps + taps - 1 - back] * seen[i];
            }
            for (int32_t i = from; i < to; ++i)
                out[i] *= gates[width + i];
        }
        // Only now, as the rows above look for what the slots held before.
        for (int32_t row = 0; row < rows() && taps > 1; ++row) {
            const BatchRow& at = m_batch->rows[size_t(row)];
            std::copy_n(m_gates.data() + row * stride + 2 * width + from, to - from,
                        state(layer, at.sequence, at.position) + from);
        }
    };
    parallelFor(size_t(width), 64, std::ref(convolve));
    tap(TapSite::What::ProductInput, {Role::ConvolutionOut, layer}, m_input);
    addProduct(m_input, matrix(Role::ConvolutionOut, layer), nullptr,
               vector(Role::AttentionPostNorm, layer));
}

} // namespace nibble
