#include "core/model/config.h"

#include <cmath>

namespace nibble {

std::vector<float> ModelConfig::ropeFrequencies() const {
    const int32_t pairs = ropeDimensions / 2;
    std::vector<float> frequencies(static_cast<size_t>(pairs));
    for (int32_t i = 0; i < pairs; ++i) {
        const double exponent = -2.0 * i / ropeDimensions;
        double frequency = std::pow(double(ropeBase), exponent) * double(ropeScale);
        if (!ropeFactors.empty())
            frequency /= double(ropeFactors[static_cast<size_t>(i)]);
        frequencies[static_cast<size_t>(i)] = static_cast<float>(frequency);
    }
    return frequencies;
}

const char* shortName(Role role) {
    switch (role) {
    case Role::TokenEmbedding:
        return "embed";
    case Role::OutputNorm:
        return "norm";
    case Role::Output:
        return "head";
    case Role::RopeFactors:
        return "rope";
    case Role::AttentionNorm:
        return "attn norm";
    case Role::Query:
        return "q";
    case Role::Key:
        return "k";
    case Role::Value:
        return "v";
    case Role::AttentionOutput:
        return "o";
    case Role::QueryBias:
        return "q bias";
    case Role::KeyBias:
        return "k bias";
    case Role::ValueBias:
        return "v bias";
    case Role::AttentionOutputBias:
        return "o bias";
    case Role::FeedForwardNorm:
        return "ffn norm";
    case Role::Gate:
        return "gate";
    case Role::Up:
        return "up";
    case Role::Down:
        return "down";
    }
    return "?";
}

bool isMatrix(Role role) {
    switch (role) {
    case Role::TokenEmbedding:
    case Role::Output:
    case Role::Query:
    case Role::Key:
    case Role::Value:
    case Role::AttentionOutput:
    case Role::Gate:
    case Role::Up:
    case Role::Down:
        return true;
    default:
        return false;
    }
}

} // namespace nibble
