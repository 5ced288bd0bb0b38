#include "core/runtime/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {

void chooseExperts(const ModelConfig& config, std::span<const float> scores,
                   std::vector<ExpertWeight>& chosen) {
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    const auto used = order.begin() + config.expertsUsed;
    std::partial_sort(order.begin(), used, order.end(), [&](int32_t a, int32_t b) {
        const float left = scores[size_t(a)], right = scores[size_t(b)];
        return left != right ? left > right : a < b;
    });
    const double largest = double(scores[size_t(order.front())]);
    double all = 0, mine = 0;
    for (const float score : scores)
        all += std::exp(double(score) - largest);
    for (auto e = order.begin(); e != used; ++e)
        mine += std::exp(double(scores[size_t(*e)]) - largest);
    // A softmax over the chosen ones is one over all that is made to sum to 1.
    const bool normed =
        config.normsExpertWeights || config.expertGate == ExpertGate::SoftmaxOfChosen;
    chosen.clear();
    for (auto e = order.begin(); e != used; ++e)
        chosen.push_back({*e, static_cast<float>(double(config.expertScale) *
                                                 std::exp(double(scores[size_t(*e)]) - largest) /
                                                 (normed ? mine : all))});
}

} // namespace nibble
