#pragma once

#include "core/evaluate/mixed.h"
#include "core/serve/engine.h"

#include <utility>

namespace nibble {

/// Budgets for a variant on a device. Those of memory count all that it takes there: its cache and
/// scratch, with the options' context and the KV formats of `like`, too.
class DeviceBudget {
public:
    /// What is referred to outlives this object.
    DeviceBudget(const MixedPlanner& planner, const Model& model, Recipe like,
                 EngineOptions options, DeviceInfo device);

    MixedPlan plan(const Budget& budget) const;
    /// The budgets of the smallest and of the best recipe; of losses the first is the larger, and
    /// the second is not 0, so that a logarithm can be taken.
    std::pair<double, double> range(Budget::Of of) const;

private:
    uint64_t memoryOf(const Recipe& recipe) const;

    const MixedPlanner& m_planner;
    const Model& m_model;
    Recipe m_like;
    EngineOptions m_options;
    DeviceInfo m_device;
};

} // namespace nibble
