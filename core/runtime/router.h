#pragma once

#include "core/model/config.h"

#include <span>
#include <vector>

namespace nibble {

struct ExpertWeight {
    int32_t expert;
    float weight;
};

/// The experts of one token from its router's outputs (one each), best first; of equal ones those
/// with the lower index.
void chooseExperts(const ModelConfig& config, std::span<const float> scores,
                   std::vector<ExpertWeight>& chosen);

} // namespace nibble
