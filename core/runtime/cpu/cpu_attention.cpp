#include "core/base/parallel.h"
#include "core/runtime/cpu/cpu_stage.h"

#include <algorithm>

namespace nibble {

/// Rotates `count` heads of one row by its position.
void CpuStage::rotate(float* heads, int32_t count, int32_t row, const Turn& turn) const {
    const auto pairs = static_cast<int32_t>(turn.frequencies.size());
    const float* cosines = turn.cosines.data() + row * pairs;
    const float* sines = turn.sines.data() + row * pairs;
    const bool halves = m_config.ropeStyle == RopeStyle::Halves;
    const int32_t step = halves ? 1 : 2, distance = halves ? pairs : 1;
    for (int32_t h = 0; h < count; ++h, heads += m_config.headSize)
        for (int32_t i = 0; i < pairs; ++i) {
            float& a = heads[i * step];
            float& b = heads[i * step + distance];
            const float x = a, y = b;
            a = x * cosines[i] - y * sines[i];
            b = x * sines[i] + y * cosines[i];
        }
}

void CpuStage::qkv(int32_t layer) {
    normRows({m_allRows.data(), size_t(rows())}, vector(Role::AttentionNorm, layer),
             vector(Role::AttentionNormBias, layer));
    tap(TapSite::What::ProductInput, {Role::Query, layer}, m_input);
    const std::array weights{&matrix(Role::Query, layer), &matrix(Role::Key, layer),
                             &matrix(Role::Value, layer)};
    const std::array<float*, 3> outs{m_query.data(), m_key.data(), m_value.data()};
    const std::array<const float*, 3> biases{vector(Role::QueryBias, layer),
                                             vector(Role::KeyBias, layer),
                                             vector(Role::ValueBias, layer)};
    const Inputs inputs = prepare(m_input, {weights[0], weights[1], weights[2]});
    const auto multiply = [&](size_t begin, size_t end) {
        int64_t first = 0;
        for (size_t i = 0; i < weights.size(); ++i) {
            const int64_t from = std::max<int64_t>(int64_t(begin) - first, 0);
            const int64_t to = std::min(int64_t(end) - first, weights[i]->units());
            if (from < to)
                weights[i]->multiply(*inputs[i], from, to, outs[i], weights[i]->rows());
            first += weights[i]->units();
        }
    };
    parallelFor(
        static_cast<size_t>(weights[0]->units() + weights[1]->units() + weights[2]->units()), 1,
        std::ref(multiply));

    std::byte* cache = pages(layer);
    const int32_t kvWidth = m_config.kvWidth(), queryWidth = m_config.queryWidth();
    const LayerConfig::Positions positions = m_config.layer(layer).positions;
    const Turn& turn = m_turns[positions == LayerConfig::Positions::Local ? 1 : 0];
    const float* queryNorm = vector(Role::QueryNorm, layer);
    const float* keyNorm = vector(Role::KeyNorm, layer);
    const bool headNorm = m_config.queryKeyNorm == QueryKeyNorm::Head;
    const auto normHeads = [&](float* heads, int32_t count, const float* weight) {
        for (int32_t h = 0; h < count; ++h, heads += m_config.headSize)
            m_kernels.norm(heads, weight, m_config.normEpsilon, m_config.headSize, heads);
    };
    if (m_config.queryKeyNorm == QueryKeyNorm::Full)
        for (int32_t row = 0; row < rows(); ++row) {
            float* query = m_query.data() + row * queryWidth;
            float* key = m_key.data() + row * kvWidth;
            for (int32_t i = 0; biases[0] && i < queryWidth; ++i)
                query[i] += biases[0][i];
            for (int32_t i = 0; biases[1] && i < kvWidth; ++i)
                key[i] += biases[1][i];
            m_kernels.norm(query, queryNorm, m_config.normEpsilon, queryWidth, query);
            m_kernels.norm(key, keyNorm, m_config.normEpsilon, kvWidth, key);
        }
    const bool biased = m_config.queryKeyNorm != QueryKeyNorm::Full;
    // Shared out by heads: tokens of a head may share bytes of the cache.
    const auto finish = [&](size_t begin, size_t end) {
        const int32_t n = m_config.headSize, group = m_layout.queriesPerHead;
        for (auto head = static_cast<int32_t>(begin); head < static_cast<int32_t>(end); ++head)
            for (int32_t row = 0; row < rows(); ++row) {
                float* query = m_query.data() + row * queryWidth + head * group * n;
                float* key = m_key.data() + row * kvWidth + head * n;
                float* value = m_value.data() + row * kvWidth + head * n;
                const auto addBias = [](float* to, const float* bias, int32_t from, int32_t count) {
                    for (int32_t i = 0; bias && i < count; ++i)
                        to[i] += bias[from + i];
                };
                addBias(query, biased ? biases[0] : nullptr, head * group * n, group * n);
                addBias(key, biased ? biases[1] : nullptr, head * n, n);
                addBias(value, biases[2], head * n, n);
                if (headNorm) {
                    normHeads(query, group, queryNorm);
                    normHeads(key, 1, keyNorm);
                }
                if (positions != LayerConfig::Positions::None) {
                    rotate(query, group, row, turn);
                    rotate(key, 1, row, turn);
                }
                const BatchRow& at = m_batch->rows[size_t(row)];
                m_layout.store(
                    cache,
                    m_batch->sequences[size_t(at.sequence)][size_t(at.position / kPageTokens)],
                    head, at.position % kPageTokens, key, value);
            }
    };
    if (rows() < 4)
        finish(0, size_t(m_config.kvHeads));
    else
        parallelFor(size_t(m_config.kvHeads), 1, std::ref(finish));
}

void CpuStage::attention(int32_t layer) {
    m_input.begin(rows(), m_config.queryWidth());
    const std::byte* cache = pages(layer);
    const auto heads = static_cast<size_t>(m_config.kvHeads);
    const float* sinks = vector(Role::AttentionSinks, layer);
    const auto body = [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            const AttendPart& part = m_parts[i / heads];
            const auto head = static_cast<int32_t>(i % heads);
            const int64_t offset = int64_t(head) * m_layout.queriesPerHead * m_config.headSize;
            m_kernels.attend({.layout = &m_layout,
                              .layer = cache,
                              .pages = m_batch->sequences[size_t(part.sequence)].data(),
                              .kvHead = head,
                              .rows = part.rows,
                              .positions = m_positions.data() + part.firstRow,
                              .queries = m_query.data() +
                                         int64_t(part.firstRow) * m_config.queryWidth() + offset,
                              .queryStride = m_config.queryWidth(),
                              .out = m_input.row(part.firstRow) + offset,
                              .outStride = m_input.stride(),
                              .scale = m_config.queryScale(),
                              .cap = m_config.attentionCap,
                              .window = m_config.layer(layer).window,
                              .sinks = sinks ? sinks + head * m_layout.queriesPerHead : nullptr});
        }
    };
    parallelFor(m_parts.size() * heads, 1, std::ref(body));
}

void CpuStage::attentionOutput(int32_t layer) {
    tap(TapSite::What::ProductInput, {Role::AttentionOutput, layer}, m_input);
    addProduct(m_input, matrix(Role::AttentionOutput, layer),
               vector(Role::AttentionOutputBias, layer), vector(Role::AttentionPostNorm, layer));
}

} // namespace nibble
