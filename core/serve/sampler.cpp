#include "core/serve/generate.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace nibble {

namespace {

constexpr size_t kRepeatWindow = 64;

using Candidates = std::vector<std::pair<float, TokenId>>;

/// Higher logit first; ties go to the lower id, so that the order never depends on the sort.
bool better(const std::pair<float, TokenId>& a, const std::pair<float, TokenId>& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
}

void penalize(Candidates& candidates, std::span<const TokenId> recent, double penalty) {
    std::vector<TokenId> seen(recent.end() -
                                  static_cast<ptrdiff_t>(std::min(recent.size(), kRepeatWindow)),
                              recent.end());
    std::sort(seen.begin(), seen.end());
    const auto factor = static_cast<float>(penalty);
    for (auto& [logit, token] : candidates)
        if (std::binary_search(seen.begin(), seen.end(), token))
            logit = logit > 0 ? logit / factor : logit * factor;
}

/// How many of the sorted candidates remain after top-p and min-p, both seen at temperature 1.
size_t cut(const Candidates& sorted, double topP, double minP) {
    size_t keep = sorted.size();
    const double best = sorted.front().first;
    if (topP < 1.0) {
        double total = 0;
        for (const auto& candidate : sorted)
            total += std::exp(candidate.first - best);
        double sum = 0;
        for (size_t i = 0; i < keep; ++i) {
            sum += std::exp(sorted[i].first - best);
            if (sum >= topP * total)
                keep = i + 1;
        }
    }
    if (minP > 0.0)
        while (keep > 1 && std::exp(sorted[keep - 1].first - best) < minP)
            --keep;
    return keep;
}

} // namespace

uint64_t freshSeed() {
    std::random_device device;
    const uint64_t seed = uint64_t(device()) << 20 ^ device();
    return (seed & 0xffffffffu) | 1u; // short enough to read out and type, and never 0
}

Sampler::Sampler(const SamplerOptions& options)
    : m_options(options), m_random(options.seed ? options.seed : freshSeed()) {}

TokenId Sampler::pick(std::span<const float> logits, std::span<const TokenId> recent) {
    m_candidates.clear();
    for (size_t i = 0; i < logits.size(); ++i)
        if (!std::isnan(logits[i]))
            m_candidates.emplace_back(logits[i], static_cast<TokenId>(i));
    const auto reach = [](const auto& a, const auto& b) { return b.first > a.first; };
    const auto top = std::max_element(m_candidates.begin(), m_candidates.end(), reach);
    if (top == m_candidates.end() || !std::isfinite(top->first))
        fail(ErrorKind::BadInput,
             "The model's output is not a number (NaN or infinite logits); its weights are damaged "
             "or do not suit this format. Try the level f16, or another copy of the file.");

    if (m_options.repeatPenalty != 1.0 && m_options.repeatPenalty > 0)
        penalize(m_candidates, recent, m_options.repeatPenalty);
    if (m_options.temperature <= 0)
        return std::min_element(m_candidates.begin(), m_candidates.end(), better)->second;

    const size_t kept = m_options.topK > 0
                            ? std::min(m_candidates.size(), static_cast<size_t>(m_options.topK))
                            : m_candidates.size();
    std::partial_sort(m_candidates.begin(), m_candidates.begin() + static_cast<ptrdiff_t>(kept),
                      m_candidates.end(), better);
    m_candidates.resize(kept);
    m_candidates.resize(cut(m_candidates, m_options.topP, m_options.minP));

    const double best = m_candidates.front().first;
    double total = 0;
    for (const auto& candidate : m_candidates)
        total += std::exp((candidate.first - best) / m_options.temperature);
    double left = m_random.uniform() * total;
    for (const auto& candidate : m_candidates) {
        left -= std::exp((candidate.first - best) / m_options.temperature);
        if (left < 0)
            return candidate.second;
    }
    return m_candidates.back().second;
}

} // namespace nibble
