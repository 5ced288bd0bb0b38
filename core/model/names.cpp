#include "core/model/names.h"

#include <fmt/core.h>

#include <array>
#include <charconv>

namespace nibble {
namespace {

struct Name {
    Role role;
    const char* text;
    bool inLayer;
};
constexpr std::array<Name, kRoleCount> kNames{{
    {Role::TokenEmbedding, "token_embd", false},
    {Role::PositionEmbedding, "position_embd", false},
    {Role::OutputNorm, "output_norm", false},
    {Role::OutputNormBias, "output_norm.bias", false},
    {Role::Output, "output", false},
    {Role::RopeFactors, "rope_freqs", false},
    {Role::RopeFactorsLong, "rope_factors_long", false},
    {Role::RopeFactorsShort, "rope_factors_short", false},
    {Role::AttentionNorm, "attn_norm", true},
    {Role::AttentionNormBias, "attn_norm.bias", true},
    {Role::Query, "attn_q", true},
    {Role::Key, "attn_k", true},
    {Role::Value, "attn_v", true},
    {Role::AttentionOutput, "attn_output", true},
    {Role::QueryBias, "attn_q.bias", true},
    {Role::KeyBias, "attn_k.bias", true},
    {Role::ValueBias, "attn_v.bias", true},
    {Role::AttentionOutputBias, "attn_output.bias", true},
    {Role::QueryNorm, "attn_q_norm", true},
    {Role::KeyNorm, "attn_k_norm", true},
    {Role::AttentionSinks, "attn_sinks", true},
    {Role::AttentionPostNorm, "post_attention_norm", true},
    {Role::ConvolutionIn, "shortconv.in_proj", true},
    {Role::Convolution, "shortconv.conv", true},
    {Role::ConvolutionOut, "shortconv.out_proj", true},
    {Role::FeedForwardNorm, "ffn_norm", true},
    {Role::FeedForwardNormBias, "ffn_norm.bias", true},
    {Role::Router, "ffn_gate_inp", true},
    {Role::RouterBias, "ffn_gate_inp.bias", true},
    {Role::Gate, "ffn_gate", true},
    {Role::Up, "ffn_up", true},
    {Role::Down, "ffn_down", true},
    {Role::GateBias, "ffn_gate.bias", true},
    {Role::UpBias, "ffn_up.bias", true},
    {Role::DownBias, "ffn_down.bias", true},
    {Role::SharedRouter, "ffn_gate_inp_shexp", true},
    {Role::SharedGate, "ffn_gate_shexp", true},
    {Role::SharedUp, "ffn_up_shexp", true},
    {Role::SharedDown, "ffn_down_shexp", true},
    {Role::FeedForwardPostNorm, "post_ffw_norm", true},
}};

} // namespace

std::string tensorName(TensorKey key) {
    for (const Name& name : kNames)
        if (name.role == key.role) {
            if (!name.inLayer)
                return name.text;
            const std::string text = fmt::format("blk.{}.{}", key.layer, name.text);
            return key.expert < 0 ? text : fmt::format("{}.{}", text, key.expert);
        }
    return "?";
}

namespace {

/// A number at the front of `text`, which it takes away; -1 where there is none.
int32_t takeNumber(std::string_view& text) {
    int32_t number = -1;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc() || number < 0)
        return -1;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return number;
}

} // namespace

std::optional<TensorKey> tensorKey(std::string_view name) {
    int32_t layer = -1;
    if (name.starts_with("blk.")) {
        name.remove_prefix(4);
        layer = takeNumber(name);
        if (layer < 0 || !name.starts_with('.'))
            return {};
        name.remove_prefix(1);
    }
    for (const Name& row : kNames) {
        if (row.inLayer != (layer >= 0) || !name.starts_with(row.text))
            continue;
        std::string_view rest = name.substr(std::string_view(row.text).size());
        if (rest.empty())
            return TensorKey{row.role, layer};
        if (!isOfExpert(row.role) || !rest.starts_with('.'))
            continue;
        rest.remove_prefix(1);
        if (const int32_t expert = takeNumber(rest); expert >= 0 && rest.empty())
            return TensorKey{row.role, layer, expert};
    }
    return {};
}

} // namespace nibble
