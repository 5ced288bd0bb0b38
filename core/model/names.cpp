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
    {Role::OutputNorm, "output_norm", false},
    {Role::Output, "output", false},
    {Role::RopeFactors, "rope_freqs", false},
    {Role::AttentionNorm, "attn_norm", true},
    {Role::Query, "attn_q", true},
    {Role::Key, "attn_k", true},
    {Role::Value, "attn_v", true},
    {Role::AttentionOutput, "attn_output", true},
    {Role::QueryBias, "attn_q.bias", true},
    {Role::KeyBias, "attn_k.bias", true},
    {Role::ValueBias, "attn_v.bias", true},
    {Role::AttentionOutputBias, "attn_output.bias", true},
    {Role::FeedForwardNorm, "ffn_norm", true},
    {Role::Gate, "ffn_gate", true},
    {Role::Up, "ffn_up", true},
    {Role::Down, "ffn_down", true},
}};

} // namespace

std::string tensorName(TensorKey key) {
    for (const Name& name : kNames)
        if (name.role == key.role)
            return name.inLayer ? fmt::format("blk.{}.{}", key.layer, name.text) : name.text;
    return "?";
}

std::optional<TensorKey> tensorKey(std::string_view name) {
    int32_t layer = -1;
    if (name.starts_with("blk.")) {
        const char* begin = name.data() + 4;
        const auto [end, code] = std::from_chars(begin, name.data() + name.size(), layer);
        if (code != std::errc() || layer < 0 || end == name.data() + name.size() || *end != '.')
            return {};
        name.remove_prefix(static_cast<size_t>(end - name.data()) + 1);
    }
    for (const Name& row : kNames)
        if (row.inLayer == (layer >= 0) && name == row.text)
            return TensorKey{row.role, layer};
    return {};
}

} // namespace nibble
