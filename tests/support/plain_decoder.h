#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

/// A decoder as a textbook writes it, in double and without any care for speed, driven by what is
/// published of a family: what the forward pass of the program is compared with.
namespace nibble::test {

struct PlainTensor {
    std::vector<int64_t> dims;
    std::vector<float> values;
};
using PlainTensors = std::map<std::string, PlainTensor>; ///< by their name in a folder

/// What a family's paper or its published modelling code says.
struct FamilyFacts {
    enum class Qk { None, Head, Full };
    bool layerNorm = false;
    double normOffset = 0; ///< norms multiply with (offset + weight)
    Qk queryKeyNorm = Qk::None;
    std::function<double(double)> activation;
    /// What a gate makes of `up`, where it is not activation(gate) · up.
    std::function<double(double gate, double up)> gating;
    double embeddingScale = 1, residualScale = 1, attentionScale = 0, logitScale = 1;
    double attentionCap = 0, logitCap = 0;
    std::function<int(int layer)> window = [](int) { return 0; };
    /// Radians a position of pair `pair` in a layer; 0 for all where nothing rotates.
    std::function<double(int layer, int pair)> frequency = [](int, int) { return 0.0; };
    double rotationMagnitude = 1;
    int rotated = 0; ///< values of a head
    std::function<bool(int layer)> mixture = [](int) { return false; };
    /// Layers that have a gated short convolution in attention's place, over `taps` tokens.
    std::function<bool(int layer)> convolves = [](int) { return false; };
    int taps = 0;
    bool normsExpertWeights = true;
    bool transposed = false; ///< matrices lie as [inputs][outputs]
};

struct PlainShape {
    int layers = 0, width = 0, heads = 0, kvHeads = 0, headSize = 0, feedForward = 0;
    int vocabulary = 0, experts = 0, expertsUsed = 0;
    double epsilon = 1e-5;
};

/// Names of a layer's tensors in folders, "{}" not yet replaced; empty where there are none.
struct PlainNames {
    std::string embedding = "model.embed_tokens.weight", positions, finalNorm = "model.norm.weight",
                head = "lm_head.weight", layer = "model.layers.";
    std::string inputNorm = "input_layernorm", queryKeyValue, query = "self_attn.q_proj",
                key = "self_attn.k_proj", value = "self_attn.v_proj", output = "self_attn.o_proj",
                queryNorm = "self_attn.q_norm", keyNorm = "self_attn.k_norm", attentionPostNorm,
                feedForwardNorm = "post_attention_layernorm", gateUp, gate = "mlp.gate_proj",
                up = "mlp.up_proj", down = "mlp.down_proj", feedForwardPostNorm,
                router = "mlp.gate", expert = "mlp.experts.", expertGate = "gate_proj",
                expertUp = "up_proj", expertDown = "down_proj", shared, sharedRouter, sinks,
                convolution = "conv.";
};

class PlainDecoder {
public:
    PlainDecoder(const FamilyFacts& facts, const PlainShape& shape, const PlainNames& names,
                 const PlainTensors& tensors)
        : f(facts), s(shape), n(names), t(tensors) {}

    /// [tokens][vocabulary]
    std::vector<float> logits(const std::vector<int>& tokens) const;

private:
    using Rows = std::vector<std::vector<double>>;
    const PlainTensor* find(const std::string& name) const {
        const auto at = t.find(name);
        return at == t.end() ? nullptr : &at->second;
    }
    std::vector<double> normed(const std::vector<double>& x, const std::string& name) const;
    std::vector<double> product(const std::vector<double>& x, const std::string& name,
                                int64_t firstRow = 0, int64_t rows = -1) const;
    std::vector<double> gated(const std::vector<double>& x, const std::string& gate,
                              const std::string& up, const std::string& down,
                              const std::string& both) const;
    std::vector<double> attended(int layer, size_t row, const Rows& q, const Rows& k,
                                 const Rows& v) const;
    std::vector<double> mixed(int layer, const std::vector<double>& x) const;
    std::vector<double> convolved(const std::string& in, size_t row, const Rows& x) const;
    void rotate(int layer, size_t position, double* head) const;

    const FamilyFacts& f;
    const PlainShape& s;
    const PlainNames& n;
    const PlainTensors& t;
};

} // namespace nibble::test
