#pragma once

#include "core/runtime/cpu/cpu_matrix.h"

#include <list>
#include <map>

namespace nibble {

/// The experts of a stage that are made when a token chooses them: of each layer those that were
/// used last stay, within a budget of bytes for all. The layer that has most gives way, as a pass
/// goes through all layers: were the expert to go that was used longest ago in any layer, a budget
/// for less than a token's experts would keep none until the next token wants it. The one that is
/// used stays in any case.
class ExpertCache {
public:
    ExpertCache(uint64_t budget, const CpuKernels& kernels)
        : m_budget(budget), m_kernels(kernels) {}

    /// Whether experts are kept so; else a stage holds them all.
    bool isUsed() const { return m_budget > 0; }
    /// Sets or replaces a matrix; what was made of its expert is forgotten.
    void set(TensorKey key, LazyTensor tensor, const Activations& activations);
    /// Forgets a matrix, which the stage then holds itself.
    void erase(TensorKey key);

    /// A matrix of an expert, made now where it is not in memory; null where it was not set. It is
    /// valid until another expert is asked for. Error as LazyTensor::make gives it.
    const CpuMatrix* get(TensorKey key);

    uint64_t bytes() const { return m_bytes; }
    /// How many times an expert was made.
    uint64_t loads() const { return m_loads; }
    void addPaths(std::vector<PathReport>& paths) const;

private:
    using Id = std::pair<int32_t, int32_t>; ///< layer and expert
    struct Source {
        LazyTensor tensor;
        Activations activations;
        std::string path; ///< once it has been made
    };
    struct Expert {
        std::map<Role, Source> sources;
        std::map<Role, CpuMatrix> made;
        std::list<Id>::iterator used; ///< valid while made is not empty
    };
    struct Layer {
        std::list<Id> used; ///< those in memory, the last used first
        uint64_t bytes = 0;
    };
    void load(const Id& id, Expert& expert);
    void letGo(const Id& id, Expert& expert);
    void makeRoom(int32_t wanting, uint64_t bytes);

    uint64_t m_budget;
    const CpuKernels& m_kernels;
    std::map<Id, Expert> m_experts;
    std::map<int32_t, Layer> m_layers;
    uint64_t m_bytes = 0, m_loads = 0;
};

} // namespace nibble
