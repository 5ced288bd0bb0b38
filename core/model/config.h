#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// Which values of a head RoPE rotates together: neighbours (2i, 2i+1), or halves (i, i + n/2).
enum class RopeStyle : uint8_t { Interleaved, Halves };
/// Rms: x / sqrt(mean(x²) + ε) · weight. Layer: the mean is taken away first, and a bias is added.
enum class NormKind : uint8_t { Rms, Layer };
/// What the feed-forward part does with its gate (or, without a gate, with its one product).
/// ClampedSilu is gpt-oss's: gate and up are limited to 7, x · sigmoid(1.702 x) · (up + 1).
enum class Activation : uint8_t { Silu, GeluTanh, Gelu, ClampedSilu };
/// Whether queries and keys are normed before they rotate: head by head, or all heads together.
enum class QueryKeyNorm : uint8_t { None, Head, Full };
/// How a router's outputs become the weights of the chosen experts: softmax over all experts, or
/// over the chosen ones only.
enum class ExpertGate : uint8_t { Softmax, SoftmaxOfChosen };

/// Positions as rotations. Frequencies are exact products of these, rounded once.
struct Rope {
    float base = 10000.0f;
    float scale = 1.0f; ///< positions are multiplied by this (linear scaling)
    /// Divisor of each pair's frequency: "rope_freqs.weight" (Llama 3.1), YaRN, LongRoPE; empty =
    /// 1.
    std::vector<float> factors;
    float magnitude = 1.0f; ///< of the rotated values (YaRN's and LongRoPE's attention factor)
    friend bool operator==(const Rope&, const Rope&) = default;
};

/// YaRN (Peng et al. 2023): pairs that turn often keep their frequency, slow ones are stretched.
struct YarnSettings {
    double factor = 1, originalContext = 2048, betaFast = 32, betaSlow = 1;
    double magnitude = 1;
    bool wholePairs = true; ///< the bounds between fast and slow are rounded outwards
    friend bool operator==(const YarnSettings&, const YarnSettings&) = default;
};

/// How tokens of a layer see each other: attention over a KV cache, or a gated short convolution
/// (LFM2) over the last few tokens, whose state is of one size however many came before.
enum class Mixer : uint8_t { Attention, Convolution };

/// What differs from layer to layer.
struct LayerConfig {
    Mixer mixer = Mixer::Attention;
    int32_t window = 0; ///< tokens that are attended to, itself included; 0 = all
    enum class Positions : uint8_t { Global, Local, None } positions = Positions::Global;
    bool experts = false; ///< the feed-forward part is a mixture of experts
    friend bool operator==(const LayerConfig&, const LayerConfig&) = default;
};

/// A decoder as values. One forward pass reads them; an architecture is a function that fills them
/// from metadata (architectures.cpp). Widths are in values, not bytes.
struct ModelConfig {
    std::string architecture;
    int32_t layers = 0, width = 0, feedForward = 0;
    int32_t heads = 0, kvHeads = 0, headSize = 0;
    int32_t vocabulary = 0, contextLength = 0;
    float normEpsilon = 1e-5f;
    NormKind norm = NormKind::Rms;
    bool postNorms = false; ///< what a layer's parts add is normed
    QueryKeyNorm queryKeyNorm = QueryKeyNorm::None;
    RopeStyle ropeStyle = RopeStyle::Interleaved;
    int32_t ropeDimensions = 0; ///< values of a head that are rotated; 0 = learned positions only
    Rope rope, localRope;       ///< by LayerConfig::positions
    /// LongRoPE: Rope::factors of contexts longer than `originalContext`; empty = the same.
    std::vector<float> longFactors;
    int32_t originalContext = 0;
    std::optional<YarnSettings> yarn; ///< where rope's factors and magnitude come from
    bool tiedEmbedding = false;

    Activation activation = Activation::Silu;
    bool gated = true;        ///< down(activation(gate) · up), else down(activation(up))
    float embeddingScale = 1; ///< what enters the first layer is multiplied by this
    float residualScale = 1;  ///< what a layer's part adds is multiplied by this
    float attentionScale = 0; ///< of q · k; 0 = 1 / sqrt(headSize)
    float logitScale = 1;     ///< logits are multiplied by this
    float attentionCap = 0, logitCap = 0; ///< x → cap · tanh(x / cap); 0 = none

    int32_t experts = 0, expertsUsed = 0;
    int32_t expertFeedForward = 0; ///< values inside one expert
    int32_t sharedFeedForward = 0; ///< values inside the expert that sees every token; 0 = none
    ExpertGate expertGate = ExpertGate::Softmax;
    bool normsExpertWeights = true; ///< weights of the chosen experts are made to sum to 1
    float expertScale = 1;          ///< and multiplied by this
    int32_t convolutionTaps = 0;    ///< tokens that a convolution sees, the row's own included
    /// Empty where all layers are alike.
    std::vector<LayerConfig> perLayer;

    int32_t queryWidth() const { return heads * headSize; }
    int32_t kvWidth() const { return kvHeads * headSize; }
    const LayerConfig& layer(int32_t index) const;
    /// The config as it runs with a context of so many tokens, which LongRoPE depends on.
    ModelConfig inContext(int32_t tokens) const;
    /// The factor of q · k.
    float queryScale() const;
    const Rope& ropeOf(LayerConfig::Positions positions) const {
        return positions == LayerConfig::Positions::Local ? localRope : rope;
    }
    /// Whether some layer uses `localRope`.
    bool hasLocalRope() const;
    /// Whether some layer is a convolution.
    bool hasConvolutions() const;
    /// Radians per position of rotated pair i (float64 product rounded once).
    std::vector<float> ropeFrequencies(const Rope& of) const;
    std::vector<float> ropeFrequencies() const { return ropeFrequencies(rope); }
    /// The widest input of a product inside a layer's feed-forward part.
    int32_t widestFeedForward() const;
};

/// What a tensor does in the forward pass.
enum class Role : uint8_t {
    TokenEmbedding,
    PositionEmbedding, ///< learned, one row a position
    OutputNorm,
    OutputNormBias,
    Output,
    RopeFactors, ///< divisors of the frequencies; of LongRoPE those for short contexts
    RopeFactorsLong,
    RopeFactorsShort,
    AttentionNorm,
    AttentionNormBias,
    Query,
    Key,
    Value,
    AttentionOutput,
    QueryBias,
    KeyBias,
    ValueBias,
    AttentionOutputBias,
    QueryNorm,
    KeyNorm,
    AttentionSinks,    ///< one a head: a score that takes its share and adds nothing
    AttentionPostNorm, ///< of what attention adds
    ConvolutionIn,     ///< makes b, c and x, each as wide as the hidden row
    Convolution,       ///< [width][taps], the oldest token's first: c · Σ taps · (b · x)
    ConvolutionOut,
    FeedForwardNorm,
    FeedForwardNormBias,
    Router,
    RouterBias,
    Gate, ///< with TensorKey::expert ≥ 0: of that expert
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
    SharedRouter, ///< one row: how much of the shared expert a token gets
    SharedGate,
    SharedUp,
    SharedDown,
    FeedForwardPostNorm, ///< of what the feed-forward part adds
};
inline constexpr int kRoleCount = static_cast<int>(Role::FeedForwardPostNorm) + 1;

/// "q", "k", "v", "o", "gate", "up", "down", "embed", "head", …: the short names of strips and
/// tables.
const char* shortName(Role role);
/// Whether the tensor is the matrix of a product (or the embedding table), and so can be quantized.
/// Routers are not: they are small, and what they choose decides everything.
bool isMatrix(Role role);
/// Whether the tensor is the weight of a norm.
bool isNorm(Role role);
/// Whether the tensor belongs to one expert of a mixture (in layers that have them).
bool isOfExpert(Role role);
/// Whether layers with this mixer have the tensor.
bool belongsTo(Role role, Mixer mixer);
/// The first products of a layer with this mixer, which share its normed input.
std::span<const Role> firstProducts(Mixer mixer);

/// Names one tensor of a model: its role, its layer (-1 outside the layers), and the expert that it
/// belongs to (-1 where it belongs to none).
struct TensorKey {
    Role role{};
    int32_t layer = -1;
    int32_t expert = -1;
    friend auto operator<=>(const TensorKey&, const TensorKey&) = default;
};

} // namespace nibble
