#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/runtime/cpu/cpu_stage.h"
#include "core/runtime/cpu/row_functions.h"
#include "core/runtime/router.h"

#include <algorithm>
#include <cmath>

namespace nibble {

CpuStage::FeedForward CpuStage::feedForward(int32_t layer, int32_t expert) {
    const auto placed = [&](Role role) -> const CpuMatrix* {
        if (const CpuMatrix* loaded = expert < 0 ? nullptr : m_experts.get({role, layer, expert})) {
            if (loaded->needsGather())
                allowGathers();
            return loaded;
        }
        const auto found = m_matrices.find({role, layer, expert});
        return found == m_matrices.end() ? &matrix(role, layer) : &found->second;
    };
    FeedForward part;
    if (m_config.gated)
        part.gate = placed(Role::Gate);
    part.up = placed(Role::Up);
    part.down = placed(Role::Down);
    part.gateBias = vectorOf({Role::GateBias, layer, expert});
    part.upBias = vectorOf({Role::UpBias, layer, expert});
    part.downBias = vectorOf({Role::DownBias, layer, expert});
    part.gateKey = {m_config.gated ? Role::Gate : Role::Up, layer, expert};
    part.downKey = {Role::Down, layer, expert};
    part.width = expert >= 0 ? m_config.expertFeedForward : m_config.feedForward;
    return part;
}

CpuStage::FeedForward CpuStage::sharedFeedForward(int32_t layer) const {
    FeedForward part;
    part.gate = &matrix(Role::SharedGate, layer);
    part.up = &matrix(Role::SharedUp, layer);
    part.down = &matrix(Role::SharedDown, layer);
    part.gateKey = {Role::SharedGate, layer};
    part.downKey = {Role::SharedDown, layer};
    part.width = m_config.sharedFeedForward;
    return part;
}

/// m_inner = activation(gate · input) · (up · input)
void CpuStage::runInner(const FeedForward& part, ActivationRows& input) {
    tap(TapSite::What::ProductInput, part.gateKey, input);
    m_inner.begin(input.rows(), part.width);
    const CpuMatrix& first = part.gate ? *part.gate : *part.up;
    const Inputs inputs =
        part.gate ? prepare(input, {part.gate, part.up}) : prepare(input, {part.up});
    const float* firstBias = part.gate ? part.gateBias : part.upBias;
    const auto body = [&](size_t begin, size_t end) {
        const auto from = int64_t(begin), to = int64_t(end);
        first.multiply(*inputs[0], from, to, m_inner.row(0), m_inner.stride());
        if (part.gate)
            part.up->multiply(*inputs[1], from, to, m_product.data(), part.width);
        const int64_t at = from * CpuMatrix::kUnitRows;
        const int64_t count = std::min(first.rows(), to * CpuMatrix::kUnitRows) - at;
        for (int64_t row = 0; row < input.rows(); ++row) {
            float* inner = m_inner.row(row) + at;
            float* up = part.gate ? m_product.data() + row * part.width + at : nullptr;
            for (int64_t i = 0; firstBias && i < count; ++i)
                inner[i] += firstBias[at + i];
            for (int64_t i = 0; up && part.upBias && i < count; ++i)
                up[i] += part.upBias[at + i];
            if (up && m_config.activation == Activation::Silu)
                m_kernels.gate(inner, up, count);
            else
                activate(m_config.activation, inner, up, count);
        }
    };
    parallelFor(size_t(first.units()), 1, std::ref(body));
}

void CpuStage::gateUp(int32_t layer) {
    normRows({m_allRows.data(), size_t(rows())}, vector(Role::FeedForwardNorm, layer),
             vector(Role::FeedForwardNormBias, layer));
    if (m_config.layer(layer).experts)
        runExperts(layer);
    else
        runInner(feedForward(layer, -1), m_input);
}

void CpuStage::down(int32_t layer) {
    const float* postNorm = vector(Role::FeedForwardPostNorm, layer);
    if (m_config.layer(layer).experts) {
        addToHidden(m_added.data(), postNorm);
    } else {
        tap(TapSite::What::ProductInput, {Role::Down, layer}, m_inner);
        addProduct(m_inner, matrix(Role::Down, layer), vector(Role::DownBias, layer), postNorm);
    }
    const TapSite site{TapSite::What::LayerOutput, {Role::Down, layer}};
    if (m_tap && m_tap->wants(site))
        m_tap->values(site, rows(), m_config.width, m_hidden.data());
}

/// The rows of each expert, with their weights, into m_chosen.
void CpuStage::route(int32_t layer) {
    const float* router = vector(Role::Router, layer);
    const float* bias = vector(Role::RouterBias, layer);
    if (!router)
        fail(ErrorKind::Internal, "The router of layer {} was not loaded before running.", layer);
    for (auto& rows : m_chosen)
        rows.clear();
    std::vector<float> scores(size_t(m_config.experts));
    std::vector<ExpertWeight> best;
    for (int32_t row = 0; row < rows(); ++row) {
        const float* x = m_input.row(row);
        for (size_t e = 0; e < scores.size(); ++e) {
            const float* weights = router + e * size_t(m_config.width);
            double sum = bias ? double(bias[e]) : 0;
            for (int32_t i = 0; i < m_config.width; ++i)
                sum += double(x[i]) * double(weights[i]);
            scores[e] = static_cast<float>(sum);
        }
        chooseExperts(m_config, scores, best);
        for (const ExpertWeight& chosen : best)
            m_chosen[size_t(chosen.expert)].push_back({row, chosen.weight});
    }
}

/// m_added[row] += weight · down(inner(row)) for rows of m_input.
void CpuStage::addExpert(const FeedForward& part, std::span<const Chosen> chosen) {
    m_routed.begin(static_cast<int32_t>(chosen.size()), m_config.width);
    for (size_t i = 0; i < chosen.size(); ++i)
        std::copy_n(m_input.row(chosen[i].row), m_config.width, m_routed.row(int64_t(i)));
    runInner(part, m_routed);
    tap(TapSite::What::ProductInput, part.downKey, m_inner);
    const Inputs inputs = prepare(m_inner, {part.down});
    const auto body = [&](size_t begin, size_t end) {
        part.down->multiply(*inputs[0], int64_t(begin), int64_t(end), m_product.data(),
                            m_config.width);
        const int64_t first = int64_t(begin) * CpuMatrix::kUnitRows;
        const int64_t last = std::min(part.down->rows(), int64_t(end) * CpuMatrix::kUnitRows);
        for (size_t i = 0; i < chosen.size(); ++i) {
            const float* product = m_product.data() + i * size_t(m_config.width);
            float* out = m_added.data() + int64_t(chosen[i].row) * m_config.width;
            for (int64_t c = first; c < last; ++c)
                out[c] +=
                    chosen[i].weight * (product[c] + (part.downBias ? part.downBias[c] : 0.0f));
        }
    };
    parallelFor(size_t(part.down->units()), 1, std::ref(body));
}

/// Expert by expert, so that each one's weights are read once for all of its rows.
void CpuStage::runExperts(int32_t layer) {
    route(layer);
    std::fill_n(m_added.data(), int64_t(rows()) * m_config.width, 0.0f);
    for (int32_t e = 0; e < m_config.experts; ++e)
        if (const auto& chosen = m_chosen[size_t(e)]; !chosen.empty()) {
            if (m_experts.isUsed() && m_batch->cancel &&
                m_batch->cancel->load(std::memory_order_relaxed))
                fail(ErrorKind::Cancelled, "Cancelled.");
            addExpert(feedForward(layer, e), chosen);
        }
    if (m_config.sharedFeedForward == 0)
        return;
    const float* router = vector(Role::SharedRouter, layer);
    std::vector<Chosen> all;
    for (int32_t row = 0; row < rows(); ++row) {
        double score = 0;
        for (int32_t i = 0; router && i < m_config.width; ++i)
            score += double(m_input.row(row)[i]) * double(router[i]);
        all.push_back({row, router ? static_cast<float>(1 / (1 + std::exp(-score))) : 1.0f});
    }
    addExpert(sharedFeedForward(layer), all);
}

} // namespace nibble
