#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nibble {

/// Which values of a head RoPE rotates together: neighbours (2i, 2i+1), or halves (i, i + n/2).
enum class RopeStyle : uint8_t { Interleaved, Halves };

/// A decoder as values. One forward pass reads them; an architecture is a function that fills them
/// from metadata (architectures.cpp). Widths are in values, not bytes.
struct ModelConfig {
    std::string architecture;
    int32_t layers = 0, width = 0, feedForward = 0;
    int32_t heads = 0, kvHeads = 0, headSize = 0;
    int32_t vocabulary = 0, contextLength = 0;
    float normEpsilon = 1e-5f;
    RopeStyle ropeStyle = RopeStyle::Interleaved;
    float ropeBase = 10000.0f;
    int32_t ropeDimensions = 0; ///< values of a head that are rotated
    float ropeScale = 1.0f;     ///< positions are multiplied by this (linear scaling)
    /// Divisor of each pair's frequency ("rope_freqs.weight", Llama 3.1); empty = 1.
    std::vector<float> ropeFactors;
    bool tiedEmbedding = false;

    int32_t queryWidth() const { return heads * headSize; }
    int32_t kvWidth() const { return kvHeads * headSize; }
    /// Radians per position of rotated pair i (float64 product rounded once).
    std::vector<float> ropeFrequencies() const;
};

/// What a tensor does in the forward pass.
enum class Role : uint8_t {
    TokenEmbedding,
    OutputNorm,
    Output,
    RopeFactors,
    AttentionNorm,
    Query,
    Key,
    Value,
    AttentionOutput,
    QueryBias,
    KeyBias,
    ValueBias,
    AttentionOutputBias,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
};
inline constexpr int kRoleCount = 17;

/// "q", "k", "v", "o", "gate", "up", "down", "embed", "head", …: the short names of strips and
/// tables.
const char* shortName(Role role);
/// Whether the tensor is the matrix of a product (or the embedding table), and so can be quantized.
bool isMatrix(Role role);

/// Names one tensor of a model: its role, and its layer (-1 outside the layers).
struct TensorKey {
    Role role{};
    int32_t layer = -1;
    friend auto operator<=>(const TensorKey&, const TensorKey&) = default;
};

} // namespace nibble
