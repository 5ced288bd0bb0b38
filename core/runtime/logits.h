#pragma once

#include "core/model/config.h"

#include <cmath>
#include <span>

namespace nibble {

/// What becomes of the head's products: scaled and capped, where the model does that.
inline void finishLogits(const ModelConfig& config, std::span<float> logits) {
    if (config.logitScale != 1)
        for (float& logit : logits)
            logit *= config.logitScale;
    if (config.logitCap > 0)
        for (float& logit : logits)
            logit = config.logitCap * std::tanh(logit / config.logitCap);
}

} // namespace nibble
