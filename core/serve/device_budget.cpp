#include "core/serve/device_budget.h"

#include <algorithm>

namespace nibble {

namespace {

/// Of the smallest recipe's loss: what lies below is as good as none.
constexpr double kLeastLoss = 1e-4;
/// A plan's layouts and scratch are known only when it is made.
constexpr int kTries = 5;

} // namespace

DeviceBudget::DeviceBudget(const MixedPlanner& planner, const Model& model, Recipe like,
                           EngineOptions options, DeviceInfo device)
    : m_planner(planner), m_model(model), m_like(std::move(like)), m_options(std::move(options)),
      m_device(std::move(device)) {}

uint64_t DeviceBudget::memoryOf(const Recipe& recipe) const {
    Recipe whole = recipe;
    whole.kFormat = m_like.kFormat;
    whole.vFormat = m_like.vFormat;
    return Engine::predictedMemory(m_model, whole, m_options, m_device).use.total();
}

MixedPlan DeviceBudget::plan(const Budget& budget) const {
    if (budget.of != Budget::Of::Memory)
        return m_planner.plan(budget);
    MixedPlan plan;
    double weights = budget.value;
    for (int i = 0; i < kTries && !(i > 0 && plan.kept); ++i) {
        plan = m_planner.plan({Budget::Of::Memory, weights});
        const double beyond = static_cast<double>(memoryOf(plan.recipe)) - budget.value;
        plan.kept = beyond <= 0;
        weights = static_cast<double>(plan.size.residentBytes) - beyond;
    }
    return plan;
}

std::pair<double, double> DeviceBudget::range(Budget::Of of) const {
    const MixedPlan smallest = m_planner.plan({Budget::Of::Bytes, 0});
    const MixedPlan best = m_planner.plan({Budget::Of::Bytes, 1e18});
    switch (of) {
    case Budget::Of::Bytes:
        return {static_cast<double>(smallest.size.bytes), static_cast<double>(best.size.bytes)};
    case Budget::Of::Bits:
        return {smallest.size.bitsPerWeight, best.size.bitsPerWeight};
    case Budget::Of::Memory:
        return {static_cast<double>(memoryOf(smallest.recipe)),
                static_cast<double>(memoryOf(best.recipe))};
    case Budget::Of::Loss:
        break;
    }
    return {smallest.prediction.kld,
            std::max(best.prediction.kld, smallest.prediction.kld * kLeastLoss)};
}

} // namespace nibble
