#include "core/runtime/cpu/expert_cache.h"

#include <utility>

namespace nibble {

void ExpertCache::set(TensorKey key, LazyTensor tensor, const Activations& activations) {
    Expert& expert = m_experts[{key.layer, key.expert}];
    letGo({key.layer, key.expert}, expert);
    expert.sources.insert_or_assign(key.role, Source{std::move(tensor), activations, {}});
}

void ExpertCache::erase(TensorKey key) {
    const auto found = m_experts.find({key.layer, key.expert});
    if (found == m_experts.end())
        return;
    letGo(found->first, found->second);
    found->second.sources.erase(key.role);
    if (found->second.sources.empty())
        m_experts.erase(found);
}

const CpuMatrix* ExpertCache::get(TensorKey key) {
    const auto found = m_experts.find({key.layer, key.expert});
    if (found == m_experts.end() || !found->second.sources.contains(key.role))
        return nullptr;
    Expert& expert = found->second;
    std::list<Id>& used = m_layers[key.layer].used;
    if (expert.made.empty())
        load(found->first, expert);
    else
        used.splice(used.begin(), used, expert.used);
    return &expert.made.at(key.role);
}

/// All matrices of an expert, as a token needs them all. What fails leaves nothing behind.
void ExpertCache::load(const Id& id, Expert& expert) {
    uint64_t bytes = 0;
    for (const auto& [role, source] : expert.sources)
        bytes += source.tensor.bytes;
    makeRoom(id.first, bytes);
    std::map<Role, CpuMatrix> made;
    bytes = 0;
    for (auto& [role, source] : expert.sources) {
        const CpuMatrix& matrix =
            made.try_emplace(role, source.tensor.make(), source.activations, m_kernels)
                .first->second;
        source.path = matrix.path();
        bytes += matrix.bytes();
    }
    makeRoom(id.first, bytes); // tiles may take more than the planes that they are made of
    Layer& layer = m_layers[id.first];
    layer.used.push_front(id);
    expert.used = layer.used.begin();
    expert.made = std::move(made);
    layer.bytes += bytes;
    m_bytes += bytes;
    ++m_loads;
}

void ExpertCache::letGo(const Id& id, Expert& expert) {
    if (expert.made.empty())
        return;
    Layer& layer = m_layers[id.first];
    for (const auto& [role, matrix] : expert.made) {
        m_bytes -= matrix.bytes();
        layer.bytes -= matrix.bytes();
    }
    expert.made.clear();
    layer.used.erase(expert.used);
}

/// For an expert of `wanting` that is not in memory yet. Where layers would have as much, its own
/// gives way.
void ExpertCache::makeRoom(int32_t wanting, uint64_t bytes) {
    while (m_bytes > 0 && m_bytes + bytes > m_budget) {
        Layer* most = nullptr;
        uint64_t held = 0;
        for (auto& [layer, has] : m_layers) {
            const uint64_t would = has.bytes + (layer == wanting ? bytes : 0);
            if (!has.used.empty() && (would > held || (would == held && layer == wanting))) {
                most = &has;
                held = would;
            }
        }
        const Id last = most->used.back();
        letGo(last, m_experts.at(last));
    }
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
