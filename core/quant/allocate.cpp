#include "core/quant/allocate.h"

#include <algorithm>
#include <numeric>

namespace nibble {
namespace {

/// Options on the lower convex hull of (bytes, loss), from few bytes to many, loss falling.
std::vector<int32_t> hullOf(const std::vector<StorageOption>& options) {
    std::vector<int32_t> order(options.size());
    std::iota(order.begin(), order.end(), 0);
    const auto at = [&](int32_t i) -> const StorageOption& {
        return options[static_cast<size_t>(i)];
    };
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return at(a).bytes != at(b).bytes ? at(a).bytes < at(b).bytes : at(a).loss < at(b).loss;
    });
    std::vector<int32_t> hull;
    const auto slope = [&](int32_t a, int32_t b) {
        return (at(a).loss - at(b).loss) / static_cast<double>(at(b).bytes - at(a).bytes);
    };
    for (const int32_t option : order) {
        if (!hull.empty() &&
            (at(option).loss >= at(hull.back()).loss || at(option).bytes == at(hull.back()).bytes))
            continue;
        while (hull.size() > 1 &&
               slope(hull[hull.size() - 2], hull.back()) <= slope(hull.back(), option))
            hull.pop_back();
        hull.push_back(option);
    }
    return hull;
}

} // namespace

Allocator::Allocator(std::vector<std::vector<StorageOption>> tensors)
    : m_tensors(std::move(tensors)) {
    for (size_t t = 0; t < m_tensors.size(); ++t) {
        const auto& options = m_tensors[t];
        const std::vector<int32_t> hull = hullOf(options);
        m_first.push_back(hull.front());
        m_leastBytes += options[static_cast<size_t>(hull.front())].bytes;
        m_mostBytes += options[static_cast<size_t>(hull.back())].bytes;
        for (size_t i = 1; i < hull.size(); ++i) {
            const StorageOption& from = options[static_cast<size_t>(hull[i - 1])];
            const StorageOption& to = options[static_cast<size_t>(hull[i])];
            m_steps.push_back(
                {static_cast<int32_t>(t), hull[i], to.bytes - from.bytes, from.loss - to.loss});
        }
    }
    // Along one hull savings per byte fall, so that a stable order keeps its steps in sequence.
    std::stable_sort(m_steps.begin(), m_steps.end(), [](const Step& a, const Step& b) {
        return a.saved * static_cast<double>(b.bytes) > b.saved * static_cast<double>(a.bytes);
    });
}

Allocation Allocator::smallest() const {
    Allocation all;
    all.choice = m_first;
    for (size_t t = 0; t < m_tensors.size(); ++t) {
        const StorageOption& option = m_tensors[t][static_cast<size_t>(m_first[t])];
        all.bytes += option.bytes;
        all.loss += option.loss;
        all.variance += option.variance;
    }
    return all;
}

void Allocator::take(Allocation& allocation, int32_t tensor, int32_t option) const {
    const auto& options = m_tensors[static_cast<size_t>(tensor)];
    int32_t& chosen = allocation.choice[static_cast<size_t>(tensor)];
    const StorageOption& from = options[static_cast<size_t>(chosen)];
    const StorageOption& to = options[static_cast<size_t>(option)];
    allocation.bytes = allocation.bytes - from.bytes + to.bytes;
    allocation.loss += to.loss - from.loss;
    allocation.variance += to.variance - from.variance;
    chosen = option;
}

/// Spends what is left below `bytes`: always on the exchange of one tensor's option that saves
/// most.
void Allocator::fill(Allocation& allocation, uint64_t bytes) const {
    for (;;) {
        int32_t tensor = -1, option = -1;
        double most = 0;
        for (size_t t = 0; t < m_tensors.size(); ++t) {
            const StorageOption& now = m_tensors[t][static_cast<size_t>(allocation.choice[t])];
            for (size_t i = 0; i < m_tensors[t].size(); ++i) {
                const StorageOption& other = m_tensors[t][i];
                if (allocation.bytes - now.bytes + other.bytes <= bytes &&
                    now.loss - other.loss > most) {
                    most = now.loss - other.loss;
                    tensor = static_cast<int32_t>(t);
                    option = static_cast<int32_t>(i);
                }
            }
        }
        if (tensor < 0)
            return;
        take(allocation, tensor, option);
    }
}

Allocation Allocator::within(uint64_t bytes) const {
    Allocation all = smallest();
    std::vector<bool> stopped(m_tensors.size());
    for (const Step& step : m_steps) {
        // A tensor whose next step does not fit waits; smaller steps of others may still.
        if (stopped[static_cast<size_t>(step.tensor)])
            continue;
        if (all.bytes + step.bytes > bytes)
            stopped[static_cast<size_t>(step.tensor)] = true;
        else
            take(all, step.tensor, step.to);
    }
    if (all.bytes <= bytes)
        fill(all, bytes);
    return all;
}

Allocation Allocator::atMost(double loss) const {
    Allocation all = smallest();
    for (const Step& step : m_steps) {
        if (all.loss <= loss)
            break;
        take(all, step.tensor, step.to);
    }
    if (all.loss > loss)
        return all;
    // The last step may have gone further than needed: give back what the target does not need.
    for (;;) {
        int32_t tensor = -1, option = -1;
        uint64_t most = 0;
        for (size_t t = 0; t < m_tensors.size(); ++t) {
            const StorageOption& now = m_tensors[t][static_cast<size_t>(all.choice[t])];
            for (size_t i = 0; i < m_tensors[t].size(); ++i) {
                const StorageOption& other = m_tensors[t][i];
                if (other.bytes < now.bytes && now.bytes - other.bytes > most &&
                    all.loss - now.loss + other.loss <= loss) {
                    most = now.bytes - other.bytes;
                    tensor = static_cast<int32_t>(t);
                    option = static_cast<int32_t>(i);
                }
            }
        }
        if (tensor < 0)
            return all;
        take(all, tensor, option);
    }
}

} // namespace nibble
