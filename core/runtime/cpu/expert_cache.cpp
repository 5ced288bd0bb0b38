#include "core/runtime/cpu/expert_cache.h"

#include <utility>

namespace nibble {

void ExpertCache::set(TensorKey key, LazyTensor tensor, const Activations& activations) {
    Expert& expert = m_experts[{key.layer, key.expert}];
    letGo(expert);
    expert.sources.insert_or_assign(key.role, Source{std::move(tensor), activations, {}});
}

void ExpertCache::erase(TensorKey key) {
    const auto found = m_experts.find({key.layer, key.expert});
    if (found == m_experts.end())
        return;
    letGo(found->second);
    found->second.sources.erase(key.role);
    if (found->second.sources.empty())
        m_experts.erase(found);
}

const CpuMatrix* ExpertCache::get(TensorKey key) {
    const auto found = m_experts.find({key.layer, key.expert});
    if (found == m_experts.end() || !found->second.sources.contains(key.role))
        return nullptr;
    Expert& expert = found->second;
    if (expert.made.empty())
        load(found->first, expert);
    else
        m_used.splice(m_used.begin(), m_used, expert.used);
    return &expert.made.at(key.role);
}

/// All matrices of an expert, as a token needs them all. What fails leaves nothing behind.
void ExpertCache::load(const Id& id, Expert& expert) {
    uint64_t bytes = 0;
    for (const auto& [role, source] : expert.sources)
        bytes += source.tensor.bytes;
    makeRoom(bytes);
    std::map<Role, CpuMatrix> made;
    bytes = 0;
    for (auto& [role, source] : expert.sources) {
        const CpuMatrix& matrix =
            made.try_emplace(role, source.tensor.make(), source.activations, m_kernels)
                .first->second;
        source.path = matrix.path();
        bytes += matrix.bytes();
    }
    makeRoom(bytes); // tiles may take more than the planes that they are made of
    m_used.push_front(id);
    expert.used = m_used.begin();
    expert.made = std::move(made);
    m_bytes += bytes;
    ++m_loads;
}

void ExpertCache::letGo(Expert& expert) {
    if (expert.made.empty())
        return;
    for (const auto& [role, matrix] : expert.made)
        m_bytes -= matrix.bytes();
    expert.made.clear();
    m_used.erase(expert.used);
}

/// For an expert that is not in memory yet.
void ExpertCache::makeRoom(uint64_t bytes) {
    while (!m_used.empty() && m_bytes + bytes > m_budget)
        letGo(m_experts.at(m_used.back()));
}

void ExpertCache::addPaths(std::vector<PathReport>& paths) const {
    for (const auto& [id, expert] : m_experts)
        for (const auto& [role, source] : expert.sources)
            paths.push_back({{role, id.first, id.second},
                             source.tensor.format->name,
                             "cpu",
                             source.path.empty() ? "in the file, not used yet" : source.path});
}

} // namespace nibble
