#include "core/model/config.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble {
namespace {

enum class Kind : uint8_t { Vector, Norm, Matrix };

enum class Part : uint8_t { Any, Expert, Attention, Convolution };

struct RoleRow {
    Role role;
    const char* shortName;
    Kind kind = Kind::Vector;
    Part part = Part::Any;
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
    {Role::Query, "q", Kind::Matrix, Part::Attention},
    {Role::Key, "k", Kind::Matrix, Part::Attention},
    {Role::Value, "v", Kind::Matrix, Part::Attention},
    {Role::AttentionOutput, "o", Kind::Matrix, Part::Attention},
    {Role::QueryBias, "q bias", Kind::Vector, Part::Attention},
    {Role::KeyBias, "k bias", Kind::Vector, Part::Attention},
    {Role::ValueBias, "v bias", Kind::Vector, Part::Attention},
    {Role::AttentionOutputBias, "o bias", Kind::Vector, Part::Attention},
    {Role::QueryNorm, "q norm", Kind::Norm, Part::Attention},
    {Role::KeyNorm, "k norm", Kind::Norm, Part::Attention},
    {Role::AttentionSinks, "sinks", Kind::Vector, Part::Attention},
    {Role::AttentionPostNorm, "attn post norm", Kind::Norm},
    {Role::ConvolutionIn, "conv in", Kind::Matrix, Part::Convolution},
    {Role::Convolution, "conv", Kind::Vector, Part::Convolution},
    {Role::ConvolutionOut, "conv out", Kind::Matrix, Part::Convolution},
    {Role::FeedForwardNorm, "ffn norm", Kind::Norm},
    {Role::FeedForwardNormBias, "ffn norm bias"},
    {Role::Router, "router"},
    {Role::RouterBias, "router bias"},
    {Role::Gate, "gate", Kind::Matrix, Part::Expert},
    {Role::Up, "up", Kind::Matrix, Part::Expert},
    {Role::Down, "down", Kind::Matrix, Part::Expert},
    {Role::GateBias, "gate bias", Kind::Vector, Part::Expert},
    {Role::UpBias, "up bias", Kind::Vector, Part::Expert},
    {Role::DownBias, "down bias", Kind::Vector, Part::Expert},
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

bool ModelConfig::hasConvolutions() const {
    return std::ranges::any_of(
        perLayer, [](const LayerConfig& layer) { return layer.mixer == Mixer::Convolution; });
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
    return rowOf(role).part == Part::Expert;
}

bool belongsTo(Role role, Mixer mixer) {
    const Part part = rowOf(role).part;
    return part != (mixer == Mixer::Attention ? Part::Convolution : Part::Attention);
}

std::span<const Role> firstProducts(Mixer mixer) {
    static constexpr Role kAttention[] = {Role::Query, Role::Key, Role::Value};
    static constexpr Role kConvolution[] = {Role::ConvolutionIn};
    return mixer == Mixer::Attention ? std::span<const Role>(kAttention)
                                     : std::span<const Role>(kConvolution);
}

} // namespace nibble
