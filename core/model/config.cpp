#include "core/model/config.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble {
namespace {

enum class Kind : uint8_t { Vector, Norm, Matrix };

struct RoleRow {
    Role role;
    const char* shortName;
    Kind kind = Kind::Vector;
    bool ofExpert = false;
};

constexpr std::array<RoleRow, kRoleCount> kRoles{{
    {Role::TokenEmbedding, "embed", Kind::Matrix},
    {Role::PositionEmbedding, "positions"},
    {Role::OutputNorm, "norm", Kind::Norm},
    {Role::OutputNormBias, "norm bias"},
    {Role::Output, "head", Kind::Matrix},
    {Role::RopeFactors, "rope"},
    {Role::RopeFactorsLong, "rope long"},
    {Role::RopeFactorsShort, "rope short"},
    {Role::AttentionNorm, "attn norm", Kind::Norm},
    {Role::AttentionNormBias, "attn norm bias"},
    {Role::Query, "q", Kind::Matrix},
    {Role::Key, "k", Kind::Matrix},
    {Role::Value, "v", Kind::Matrix},
    {Role::AttentionOutput, "o", Kind::Matrix},
    {Role::QueryBias, "q bias"},
    {Role::KeyBias, "k bias"},
    {Role::ValueBias, "v bias"},
    {Role::AttentionOutputBias, "o bias"},
    {Role::QueryNorm, "q norm", Kind::Norm},
    {Role::KeyNorm, "k norm", Kind::Norm},
    {Role::AttentionSinks, "sinks"},
    {Role::AttentionPostNorm, "attn post norm", Kind::Norm},
    {Role::FeedForwardNorm, "ffn norm", Kind::Norm},
    {Role::FeedForwardNormBias, "ffn norm bias"},
    {Role::Router, "router"},
    {Role::RouterBias, "router bias"},
    {Role::Gate, "gate", Kind::Matrix, true},
    {Role::Up, "up", Kind::Matrix, true},
    {Role::Down, "down", Kind::Matrix, true},
    {Role::GateBias, "gate bias", Kind::Vector, true},
    {Role::UpBias, "up bias", Kind::Vector, true},
    {Role::DownBias, "down bias", Kind::Vector, true},
    {Role::SharedRouter, "shared router"},
    {Role::SharedGate, "shared gate", Kind::Matrix},
    {Role::SharedUp, "shared up", Kind::Matrix},
    {Role::SharedDown, "shared down", Kind::Matrix},
    {Role::FeedForwardPostNorm, "ffn post norm", Kind::Norm},
}};
static_assert([] {
    for (int i = 0; i < kRoleCount; ++i)
        if (int(kRoles[size_t(i)].role) != i)
            return false;
    return true;
}());

const RoleRow& rowOf(Role role) {
    return kRoles[static_cast<size_t>(role)];
}

} // namespace

const LayerConfig& ModelConfig::layer(int32_t index) const {
    static const LayerConfig kPlain;
    return perLayer.empty() ? kPlain : perLayer[static_cast<size_t>(index)];
}

ModelConfig ModelConfig::inContext(int32_t tokens) const {
    ModelConfig config = *this;
    if (!longFactors.empty() && tokens > originalContext)
        config.rope.factors = longFactors;
    return config;
}

float ModelConfig::queryScale() const {
    return attentionScale != 0 ? attentionScale : 1 / std::sqrt(static_cast<float>(headSize));
}

bool ModelConfig::hasLocalRope() const {
    return std::ranges::any_of(perLayer, [](const LayerConfig& layer) {
        return layer.positions == LayerConfig::Positions::Local;
    });
}

int32_t ModelConfig::widestFeedForward() const {
    return std::max({feedForward, expertFeedForward, sharedFeedForward});
}

std::vector<float> ModelConfig::ropeFrequencies(const Rope& of) const {
    const int32_t pairs = ropeDimensions / 2;
    std::vector<float> frequencies(static_cast<size_t>(pairs));
    for (int32_t i = 0; i < pairs; ++i) {
        const double exponent = -2.0 * i / ropeDimensions;
        double frequency = std::pow(double(of.base), exponent) * double(of.scale);
        if (!of.factors.empty())
            frequency /= double(of.factors[static_cast<size_t>(i)]);
        frequencies[static_cast<size_t>(i)] = static_cast<float>(frequency);
    }
    return frequencies;
}

const char* shortName(Role role) {
    return rowOf(role).shortName;
}

bool isMatrix(Role role) {
    return rowOf(role).kind == Kind::Matrix;
}

bool isNorm(Role role) {
    return rowOf(role).kind == Kind::Norm;
}

bool isOfExpert(Role role) {
    return rowOf(role).ofExpert;
}

} // namespace nibble
