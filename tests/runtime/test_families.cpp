// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/base/hash.h"
#include "core/base/random.h"
#include "core/quant/quantizer.h"
#include "core/quant/recipe.h"
#include "tests/runtime/vulkan_support.h"
#include "tests/support/packed_folder.h"
#include "tests/support/plain_decoder.h"

#include <QTemporaryDir>
#include <QTest>
#include <nlohmann/json.hpp>

#include <fstream>
#include <numbers>
#include <set>

using namespace nibble;
using namespace nibble::test;

namespace {

using Json = nlohmann::json;

/// One family as its published code has it, small.
struct Family {
    std::string huggingFaceClass;
    PlainShape shape;
    PlainNames names;
    FamilyFacts facts;
    Json config;                        ///< beside the keys that all have
    std::string modelType;              ///< of config.json
    std::vector<const char*> keys = {}; ///< that transformers reads beside those of `config`
    bool tied = false, biased = false, biasedEverywhere = false;
    int sharedFeedForward = 0;
};

double silu(double x) {
    return x / (1 + std::exp(-x));
}
double geluTanh(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

std::function<double(int, int)> turning(double base, int rotated) {
    return [=](int, int pair) { return std::pow(base, -2.0 * pair / rotated); };
}

Family plain(const std::string& name) {
    Family f;
    f.huggingFaceClass = name;
    f.shape = {.layers = 3,
               .width = 64,
               .heads = 4,
               .kvHeads = 2,
               .headSize = 16,
               .feedForward = 96,
               .vocabulary = 80};
    f.facts.activation = silu;
    f.facts.rotated = 16;
    f.facts.frequency = turning(10000, 16);
    f.config = {{"hidden_act", "silu"}, {"rope_theta", 10000.0}};
    return f;
}

void makeMixture(Family& f, const char* count) {
    f.shape.experts = 4;
    f.shape.expertsUsed = 2;
    f.facts.mixture = [](int) { return true; };
    f.config[count] = 4;
    f.config["num_experts_per_tok"] = 2;
}

/// YaRN: pairs below `low` keep their frequency, those above `high` are stretched four times.
void useYarn(Family& f, bool rounded = true) {
    const int rotated = f.shape.headSize;
    f.facts.rotated = rotated;
    const double factor = 4, original = 32, base = 10000;
    const auto pairOf = [&](double turns) {
        return rotated * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
    };
    const double low = std::max(0.0, rounded ? std::floor(pairOf(4)) : pairOf(4)),
                 high = std::min(rotated - 1.0, rounded ? std::ceil(pairOf(1)) : pairOf(1));
    f.facts.frequency = [=](int, int pair) {
        const double keep = 1 - std::clamp((pair - low) / (high - low), 0.0, 1.0);
        const double own = std::pow(base, -2.0 * pair / rotated);
        return own / factor * (1 - keep) + own * keep;
    };
    f.facts.rotationMagnitude = 1 + 0.1 * std::log(factor);
}

void makeGemma(Family& f) {
    f.tied = true;
    f.facts.normOffset = 1;
    f.facts.activation = geluTanh;
    f.facts.embeddingScale = 8; // sqrt(width)
    f.config["hidden_act"] = "gelu_pytorch_tanh";
}

void makeGemma2(Family& f) {
    makeGemma(f);
    f.names.attentionPostNorm = "post_attention_layernorm";
    f.names.feedForwardNorm = "pre_feedforward_layernorm";
    f.names.feedForwardPostNorm = "post_feedforward_layernorm";
    f.facts.attentionScale = 1 / std::sqrt(24.0);
    f.config["query_pre_attn_scalar"] = 24;
    f.config["sliding_window"] = 8;
}

/// "model_type" and further keys of transformers' configuration classes.
struct ConfigKeys {
    const char* of;
    const char* modelType;
    std::vector<const char*> keys;
};
const ConfigKeys kConfigKeys[] = {
    {"LlamaForCausalLM", "llama", {"head_dim", "attention_bias", "mlp_bias", "rope_scaling"}},
    {"MistralForCausalLM", "mistral", {"head_dim", "rms_norm_eps"}},
    {"MixtralForCausalLM", "mixtral", {"sliding_window", "intermediate_size"}},
    {"Qwen2ForCausalLM", "qwen2", {"num_key_value_heads"}},
    {"Qwen2MoeForCausalLM", "qwen2_moe", {"decoder_sparse_step", "use_sliding_window"}},
    {"Qwen3ForCausalLM", "qwen3", {"attention_bias", "use_sliding_window"}},
    {"Qwen3MoeForCausalLM", "qwen3_moe", {"head_dim", "mlp_only_layers", "attention_bias"}},
    {"GemmaForCausalLM", "gemma", {"head_dim", "hidden_activation", "attention_bias"}},
    {"Gemma2ForCausalLM", "gemma2", {"head_dim", "hidden_activation", "layer_types"}},
    {"Gemma3ForCausalLM", "gemma3_text", {"head_dim", "hidden_activation", "layer_types"}},
    {"Phi3ForCausalLM", "phi3", {"pad_token_id", "max_position_embeddings"}},
    {"GraniteForCausalLM", "granite", {"attention_bias", "mlp_bias"}},
    {"Olmo2ForCausalLM", "olmo2", {"attention_bias"}},
    {"SmolLM3ForCausalLM", "smollm3", {"no_rope_layers", "pad_token_id"}},
    {"Lfm2ForCausalLM", "lfm2", {"norm_eps", "layer_types", "conv_L_cache"}},
    {"GPT2LMHeadModel", "gpt2", {"n_ctx", "n_positions"}},
};

Family gptOss() {
    Family f = plain("GptOssForCausalLM");
    makeMixture(f, "num_local_experts");
    f.biased = f.biasedEverywhere = true;
    useYarn(f, false);
    f.facts.window = [](int layer) { return layer % 2 == 0 ? 8 : 0; };
    f.facts.gating = [](double gate, double up) {
        gate = std::min(gate, 7.0);
        return gate / (1 + std::exp(-1.702 * gate)) * (std::clamp(up, -7.0, 7.0) + 1);
    };
    f.names.router = "mlp.router";
    f.names.sinks = "self_attn.sinks";
    f.config.update({{"head_dim", 16},
                     {"attention_bias", true},
                     {"swiglu_limit", 7.0},
                     {"sliding_window", 8},
                     {"layer_types", {"sliding_attention", "full_attention", "sliding_attention"}},
                     {"rope_scaling",
                      {{"rope_type", "yarn"},
                       {"factor", 4.0},
                       {"beta_fast", 4.0},
                       {"beta_slow", 1.0},
                       {"truncate", false},
                       {"original_max_position_embeddings", 32}}}});
    return f;
}

std::vector<Family> families() {
    std::vector<Family> all;
    const auto add = [&](const char* name) -> Family& {
        all.push_back(plain(name));
        return all.back();
    };
    add("LlamaForCausalLM");
    {
        Family& f = add("MistralForCausalLM");
        f.facts.window = [](int) { return 8; };
        f.config["sliding_window"] = 8;
    }
    {
        Family& f = add("MixtralForCausalLM");
        makeMixture(f, "num_local_experts");
        f.names.router = "block_sparse_moe.gate";
        f.names.expert = "block_sparse_moe.experts.";
        f.names.expertGate = "w1";
        f.names.expertUp = "w3";
        f.names.expertDown = "w2";
    }
    {
        Family& f = add("Qwen2ForCausalLM");
        f.biased = true;
        f.facts.window = [](int layer) { return layer >= 1 ? 8 : 0; };
        f.config.update(
            {{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 1}});
    }
    {
        Family& f = add("Qwen2MoeForCausalLM");
        f.biased = true;
        makeMixture(f, "num_experts");
        f.facts.normsExpertWeights = false;
        f.facts.mixture = [](int layer) { return layer != 1; };
        f.sharedFeedForward = 32;
        f.names.shared = "mlp.shared_expert.";
        f.names.sharedRouter = "mlp.shared_expert_gate";
        f.config.update({{"moe_intermediate_size", 96},
                         {"shared_expert_intermediate_size", 32},
                         {"norm_topk_prob", false},
                         {"mlp_only_layers", {1}}});
    }
    {
        Family& f = add("Qwen3ForCausalLM");
        f.facts.queryKeyNorm = FamilyFacts::Qk::Head;
        f.shape.headSize = 32;
        f.config["head_dim"] = 32;
        f.facts.rotated = 32;
        useYarn(f);
        f.config["rope_scaling"] = {{"rope_type", "yarn"},
                                    {"factor", 4.0},
                                    {"beta_fast", 4.0},
                                    {"beta_slow", 1.0},
                                    {"original_max_position_embeddings", 32}};
    }
    {
        Family& f = add("Qwen3MoeForCausalLM");
        f.facts.queryKeyNorm = FamilyFacts::Qk::Head;
        makeMixture(f, "num_experts");
        f.config.update({{"moe_intermediate_size", 96}, {"norm_topk_prob", true}});
    }
    makeGemma(add("GemmaForCausalLM"));
    {
        Family& f = add("Gemma2ForCausalLM");
        makeGemma2(f);
        f.facts.window = [](int layer) { return layer % 2 == 0 ? 8 : 0; };
        f.facts.attentionCap = 2;
        f.facts.logitCap = 5;
        f.config.update({{"attn_logit_softcapping", 2.0}, {"final_logit_softcapping", 5.0}});
    }
    {
        Family& f = add("Gemma3ForCausalLM");
        makeGemma2(f);
        f.shape.layers = 7;
        f.facts.queryKeyNorm = FamilyFacts::Qk::Head;
        f.facts.window = [](int layer) { return layer == 5 ? 0 : 8; };
        f.facts.frequency = [](int layer, int pair) {
            return layer == 5 ? std::pow(1e6, -2.0 * pair / 16) / 8
                              : std::pow(1e4, -2.0 * pair / 16);
        };
        f.config.update({{"rope_theta", 1e6},
                         {"rope_local_base_freq", 1e4},
                         {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}});
    }
    {
        Family& f = add("Phi3ForCausalLM");
        f.names.queryKeyValue = "self_attn.qkv_proj";
        f.names.gateUp = "mlp.gate_up_proj";
        f.facts.rotated = 12;
        std::vector<double> shorts, longs;
        for (int i = 0; i < 6; ++i) {
            shorts.push_back(1 + 0.1 * i);
            longs.push_back(2 + i);
        }
        // The tests run with a context of 128, beyond the original one.
        f.facts.frequency = [longs](int, int pair) {
            return std::pow(10000.0, -2.0 * pair / 12) / longs[static_cast<size_t>(pair)];
        };
        f.facts.rotationMagnitude = std::sqrt(1 + std::log(256.0 / 64) / std::log(64.0));
        f.facts.window = [](int) { return 20; };
        f.config.update(
            {{"partial_rotary_factor", 0.75},
             {"sliding_window", 20},
             {"original_max_position_embeddings", 64},
             {"rope_scaling",
              {{"type", "longrope"}, {"short_factor", shorts}, {"long_factor", longs}}}});
    }
    {
        Family& f = add("GraniteForCausalLM");
        f.tied = true;
        f.facts.embeddingScale = 3;
        f.facts.residualScale = 0.4;
        f.facts.attentionScale = 0.1;
        f.facts.logitScale = 1 / 3.0;
        f.config.update({{"embedding_multiplier", 3.0},
                         {"residual_multiplier", 0.4},
                         {"attention_multiplier", 0.1},
                         {"logits_scaling", 3.0}});
    }
    {
        Family& f = add("Olmo2ForCausalLM");
        f.facts.queryKeyNorm = FamilyFacts::Qk::Full;
        f.names.inputNorm = f.names.feedForwardNorm = "none";
        f.names.attentionPostNorm = "post_attention_layernorm";
        f.names.feedForwardPostNorm = "post_feedforward_layernorm";
    }
    {
        Family& f = add("SmolLM3ForCausalLM");
        f.tied = true;
        f.shape.layers = 4;
        const auto own = f.facts.frequency;
        f.facts.frequency = [own](int layer, int pair) {
            return layer == 3 ? 0 : own(layer, pair);
        };
    }
    {
        Family& f = add("GPT2LMHeadModel");
        f.tied = f.biased = true;
        f.shape.kvHeads = 4;
        f.facts.layerNorm = f.facts.transposed = true;
        f.facts.activation = geluTanh;
        f.facts.rotated = 0;
        PlainNames& n = f.names;
        n.embedding = "transformer.wte.weight";
        n.positions = "transformer.wpe.weight";
        n.finalNorm = "transformer.ln_f.weight";
        n.layer = "transformer.h.";
        n.inputNorm = "ln_1";
        n.queryKeyValue = "attn.c_attn";
        n.output = "attn.c_proj";
        n.feedForwardNorm = "ln_2";
        n.gate = "";
        n.up = "mlp.c_fc";
        n.down = "mlp.c_proj";
        f.config = {{"n_layer", 3},       {"n_embd", 64},
                    {"n_head", 4},        {"n_inner", 96},
                    {"n_positions", 256}, {"activation_function", "gelu_new"},
                    {"vocab_size", 80},   {"layer_norm_epsilon", 1e-5}};
    }
    {
        Family& f = add("Lfm2ForCausalLM");
        f.tied = true;
        f.shape.layers = 4;
        f.facts.queryKeyNorm = FamilyFacts::Qk::Head;
        f.facts.frequency = turning(1e6, 16);
        f.facts.convolves = [](int layer) { return layer % 2 == 0; };
        f.facts.taps = 3;
        f.names.inputNorm = "operator_norm";
        f.names.feedForwardNorm = "ffn_norm";
        f.names.finalNorm = "model.embedding_norm.weight";
        f.names.queryNorm = "self_attn.q_layernorm";
        f.names.keyNorm = "self_attn.k_layernorm";
        f.names.output = "self_attn.out_proj";
        f.names.gate = "feed_forward.w1";
        f.names.up = "feed_forward.w3";
        f.names.down = "feed_forward.w2";
        f.config = {{"conv_L_cache", 3},
                    {"layer_types", {"conv", "full_attention", "conv", "full_attention"}},
                    {"block_auto_adjust_ff_dim", false},
                    {"norm_eps", 1e-5},
                    {"rope_theta", 1e6}};
    }
    all.push_back(gptOss());
    for (Family& f : all) {
        const auto own = std::ranges::find(kConfigKeys, f.huggingFaceClass, &ConfigKeys::of);
        if (own != std::end(kConfigKeys))
            f.modelType = own->modelType, f.keys = own->keys;
    }
    return all;
}

/// The family's tensors, random; norms near what they are in trained models.
PlainTensors randomTensors(const Family& f) {
    PlainTensors tensors;
    Random random(hashText(f.huggingFaceClass));
    const auto uniform = [&] { return static_cast<float>(random.next() >> 40) * 0x1p-24f * 2 - 1; };
    const auto put = [&](const std::string& name, std::vector<int64_t> dims, float scale,
                         float middle = 0) {
        int64_t count = 1;
        for (const int64_t dim : dims)
            count *= dim;
        PlainTensor t{std::move(dims), {}};
        for (int64_t i = 0; i < count; ++i)
            t.values.push_back(middle + scale * uniform());
        tensors[name] = std::move(t);
    };
    const PlainShape& s = f.shape;
    const PlainNames& n = f.names;
    const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols,
                            bool bias = false) {
        put(name + ".weight",
            f.facts.transposed ? std::vector{cols, rows} : std::vector{rows, cols},
            2.5f / std::sqrt(static_cast<float>(cols)));
        if (bias)
            put(name + ".bias", {rows}, 0.5f);
    };
    const auto norm = [&](const std::string& name, int64_t width) {
        if (name.ends_with("none") || name.ends_with("."))
            return;
        put(name + ".weight", {width}, 0.5f, f.facts.normOffset > 0 ? 0.0f : 1.0f);
        if (f.facts.layerNorm)
            put(name + ".bias", {width}, 0.5f);
    };
    const int64_t w = s.width, qw = int64_t(s.heads) * s.headSize,
                  kw = int64_t(s.kvHeads) * s.headSize;
    put(n.embedding, {s.vocabulary, w}, 1);
    if (!n.positions.empty())
        put(n.positions, {256, w}, 1);
    if (!f.tied)
        put(n.head, {s.vocabulary, w}, 0.5f);
    norm(n.finalNorm.substr(0, n.finalNorm.size() - 7), w);
    for (int layer = 0; layer < s.layers; ++layer) {
        const std::string in = n.layer + std::to_string(layer) + ".";
        norm(in + n.inputNorm, w);
        norm(in + n.feedForwardNorm, w);
        norm(in + n.attentionPostNorm, w);
        norm(in + n.feedForwardPostNorm, w);
        if (f.facts.convolves(layer)) {
            matrix(in + n.convolution + "in_proj", 3 * w, w);
            put(in + n.convolution + "conv.weight", {w, 1, f.facts.taps}, 1);
            matrix(in + n.convolution + "out_proj", w, w);
        } else if (n.queryKeyValue.empty()) {
            matrix(in + n.query, qw, w, f.biased);
            matrix(in + n.key, kw, w, f.biased);
            matrix(in + n.value, kw, w, f.biased);
        } else {
            matrix(in + n.queryKeyValue, qw + 2 * kw, w, f.biased);
        }
        if (f.facts.queryKeyNorm != FamilyFacts::Qk::None && !f.facts.convolves(layer)) {
            const bool full = f.facts.queryKeyNorm == FamilyFacts::Qk::Full;
            norm(in + n.queryNorm, full ? qw : s.headSize);
            norm(in + n.keyNorm, full ? kw : s.headSize);
        }
        if (!f.facts.convolves(layer))
            matrix(in + n.output, w, qw, f.facts.layerNorm || f.biasedEverywhere);
        if (!n.sinks.empty())
            put(in + n.sinks, {s.heads}, 1);
        if (f.facts.mixture(layer)) {
            matrix(in + n.router, s.experts, w, f.biasedEverywhere);
            for (int e = 0; e < s.experts; ++e) {
                const std::string one = in + n.expert + std::to_string(e) + ".";
                matrix(one + n.expertGate, s.feedForward, w, f.biasedEverywhere);
                matrix(one + n.expertUp, s.feedForward, w, f.biasedEverywhere);
                matrix(one + n.expertDown, w, s.feedForward, f.biasedEverywhere);
            }
            if (!n.shared.empty()) {
                matrix(in + n.sharedRouter, 1, w);
                matrix(in + n.shared + "gate_proj", f.sharedFeedForward, w);
                matrix(in + n.shared + "up_proj", f.sharedFeedForward, w);
                matrix(in + n.shared + "down_proj", w, f.sharedFeedForward);
            }
            continue;
        }
        if (!n.gateUp.empty()) {
            matrix(in + n.gateUp, 2 * int64_t(s.feedForward), w);
        } else {
            if (!n.gate.empty())
                matrix(in + n.gate, s.feedForward, w);
            matrix(in + n.up, s.feedForward, w, f.facts.layerNorm);
        }
        matrix(in + n.down, w, s.feedForward, f.facts.layerNorm);
    }
    return tensors;
}

bool isOfExpert(const std::string& name) {
    return name.find(".experts.") != std::string::npos;
}

/// One part of all experts of a layer, in the order of a folder of gpt-oss: [experts][inputs]
/// [outputs], gates and ups by turns (biases have no inputs).
PlainTensor stacked(const Family& f, const PlainTensors& tensors, const std::string& experts,
                    std::initializer_list<const char*> roles, const std::string& part) {
    PlainTensor out;
    int64_t outputs = 0, inputs = 0;
    for (int e = 0; e < f.shape.experts; ++e) {
        const auto of = [&](const char* role) -> const PlainTensor& {
            return tensors.at(experts + std::to_string(e) + "." + role + part);
        };
        outputs = of(*roles.begin()).dims[0];
        inputs = part == ".bias" ? 1 : of(*roles.begin()).dims[1];
        for (int64_t in = 0; in < inputs; ++in)
            for (int64_t o = 0; o < outputs; ++o)
                for (const char* role : roles)
                    out.values.push_back(of(role).values[static_cast<size_t>(o * inputs + in)]);
    }
    outputs *= static_cast<int64_t>(roles.size());
    out.dims = {f.shape.experts, inputs, outputs};
    if (part == ".bias")
        out.dims = {f.shape.experts, outputs};
    return out;
}

/// The tensors as folders of gpt-oss have them.
PlainTensors withStacks(const Family& f, const PlainTensors& tensors) {
    PlainTensors out = tensors;
    std::erase_if(out, [](const auto& entry) { return isOfExpert(entry.first); });
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".mlp.experts.";
        for (const std::string part : {"", "_bias"}) {
            const std::string own = part.empty() ? ".weight" : ".bias";
            out[in + "gate_up_proj" + part] =
                stacked(f, tensors, in, {"gate_proj", "up_proj"}, own);
            out[in + "down_proj" + part] = stacked(f, tensors, in, {"down_proj"}, own);
        }
    }
    return out;
}

Json configOf(const Family& f) {
    Json config = {{"architectures", {f.huggingFaceClass}},
                   {"hidden_size", f.shape.width},
                   {"intermediate_size", f.shape.feedForward},
                   {"num_hidden_layers", f.shape.layers},
                   {"num_attention_heads", f.shape.heads},
                   {"num_key_value_heads", f.shape.kvHeads},
                   {"vocab_size", f.shape.vocabulary},
                   {"max_position_embeddings", 256},
                   {"rms_norm_eps", 1e-5},
                   {"tie_word_embeddings", f.tied}};
    config.update(f.config);
    return config;
}

void writeFolder(const Family& f, const PlainTensors& all, const std::filesystem::path& folder) {
    const PlainTensors tensors = f.names.sinks.empty() ? all : withStacks(f, all);
    std::ofstream(folder / "config.json") << configOf(f).dump(2);
    std::vector<SafetensorsTensor> table;
    std::vector<Bytes> contents;
    for (const auto& [name, tensor] : tensors) {
        contents.push_back(Bytes::of(tensor.values));
        table.push_back({name, "F32", tensor.dims, contents.back().size()});
    }
    writeSafetensors(folder / "model.safetensors", {}, table,
                     [&](size_t index) { return contents[index]; });
}

/// Experts in MXFP4: codes of four bits, and a power of two for 32 of them.
struct Mxfp4 {
    std::vector<uint8_t> codes, exponents;

    float value(size_t i) const {
        constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
        const float size = kValues[codes[i] & 7] * std::ldexp(1.0f, exponents[i / 32] - 127);
        return codes[i] & 8 ? -size : size;
    }
};
using Mxfp4s = std::map<std::string, Mxfp4>; ///< by the name in PlainTensors

/// Puts random ones in the places of the experts' matrices.
Mxfp4s makePacked(PlainTensors& tensors) {
    Mxfp4s all;
    Random random(77);
    for (auto& [name, tensor] : tensors) {
        if (!isOfExpert(name) || !name.ends_with(".weight"))
            continue;
        Mxfp4& packed = all[name];
        for (size_t i = 0; i < tensor.values.size(); ++i) {
            packed.codes.push_back(static_cast<uint8_t>(random.next() >> 60));
            if (i % 32 == 0)
                packed.exponents.push_back(static_cast<uint8_t>(122 + (random.next() >> 40) % 3));
        }
        for (size_t i = 0; i < tensor.values.size(); ++i)
            tensor.values[i] = packed.value(i);
    }
    return all;
}

/// The folder of a model whose experts are packed, as OpenAI publishes it.
PackedFolder packedFolder(const Family& f, const PlainTensors& tensors, const Mxfp4s& packed) {
    PackedFolder folder;
    for (const auto& [name, tensor] : withStacks(f, tensors))
        if (name.ends_with("_proj"))
            continue;
        else
            folder.add(name, "F32", tensor.dims, tensor.values);
    const auto put = [&](const std::string& in, const std::string& to,
                         std::initializer_list<const char*> roles) {
        std::vector<uint8_t> blocks, scales;
        std::vector<int64_t> dims;
        for (int e = 0; e < f.shape.experts; ++e) {
            const std::string one = in + std::to_string(e) + ".";
            dims = tensors.at(one + *roles.begin() + ".weight").dims;
            for (int64_t row = 0; row < dims[0]; ++row)
                for (const char* role : roles) {
                    const Mxfp4& m = packed.at(one + role + ".weight");
                    for (int64_t i = row * dims[1]; i < (row + 1) * dims[1]; i += 2)
                        blocks.push_back(
                            static_cast<uint8_t>(m.codes[size_t(i)] | m.codes[size_t(i + 1)] << 4));
                    const auto from = m.exponents.begin() + row * dims[1] / 32;
                    scales.insert(scales.end(), from, from + dims[1] / 32);
                }
        }
        const int64_t rows = dims[0] * int64_t(roles.size()), groups = dims[1] / 32;
        folder.add(in + to + "_blocks", "U8", {f.shape.experts, rows, groups, 16}, blocks);
        folder.add(in + to + "_scales", "U8", {f.shape.experts, rows, groups}, scales);
    };
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".mlp.experts.";
        put(in, "gate_up_proj", {"gate_proj", "up_proj"});
        put(in, "down_proj", {"down_proj"});
    }
    Json config = configOf(f);
    config["quantization_config"] = {{"quant_method", "mxfp4"},
                                     {"modules_to_not_convert", {"model.layers.*.self_attn"}}};
    folder.config = config.dump();
    return folder;
}

/// Blocks of a GGUF file: the exponent, then values i and i + 16 in a byte.
std::vector<uint8_t> blocksOf(const Mxfp4& packed) {
    std::vector<uint8_t> out;
    for (size_t block = 0; block < packed.exponents.size(); ++block) {
        out.push_back(packed.exponents[block]);
        const uint8_t* codes = packed.codes.data() + block * 32;
        for (int i = 0; i < 16; ++i)
            out.push_back(static_cast<uint8_t>(codes[i] | codes[i + 16] << 4));
    }
    return out;
}

/// gpt-oss as a GGUF file, its experts stacked (and packed, where `packed` has them).
void writeGptOss(const Family& f, const PlainTensors& tensors, const std::filesystem::path& path,
                 const Mxfp4s& packed = {}) {
    Metadata m;
    const auto put = [&](const char* key, auto value, uint32_t type) {
        m.entries[key] = {.value = value, .storedType = type};
    };
    constexpr uint32_t kUint32 = 4, kFloat32 = 6, kText = 8;
    put("general.architecture", std::string("gpt-oss"), kText);
    const std::pair<const char*, int64_t> counts[] = {
        {"gpt-oss.block_count", f.shape.layers},
        {"gpt-oss.embedding_length", f.shape.width},
        {"gpt-oss.feed_forward_length", f.shape.feedForward},
        {"gpt-oss.expert_feed_forward_length", f.shape.feedForward},
        {"gpt-oss.attention.head_count", f.shape.heads},
        {"gpt-oss.attention.head_count_kv", f.shape.kvHeads},
        {"gpt-oss.attention.key_length", f.shape.headSize},
        {"gpt-oss.attention.value_length", f.shape.headSize},
        {"gpt-oss.context_length", 256},
        {"gpt-oss.expert_count", f.shape.experts},
        {"gpt-oss.expert_used_count", f.shape.expertsUsed},
        {"gpt-oss.attention.sliding_window", 8},
        {"gpt-oss.rope.scaling.original_context_length", 32}};
    for (const auto& [key, value] : counts)
        put(key, value, kUint32);
    const std::pair<const char*, double> numbers[] = {
        {"gpt-oss.attention.layer_norm_rms_epsilon", 1e-5},
        {"gpt-oss.rope.freq_base", 10000},
        {"gpt-oss.rope.scaling.factor", 4},
        {"gpt-oss.rope.scaling.yarn_beta_fast", 4},
        {"gpt-oss.rope.scaling.yarn_beta_slow", 1}};
    for (const auto& [key, value] : numbers)
        put(key, value, kFloat32);
    put("gpt-oss.rope.scaling.type", std::string("yarn"), kText);

    std::vector<GgufTensor> table;
    std::vector<Bytes> contents;
    const auto write = [&](const std::string& name, std::vector<int64_t> dims,
                           std::vector<float> values) {
        contents.push_back(Bytes::of(std::move(values)));
        table.push_back(
            {name, std::move(dims), blockTypeOf(getFormat("f32")), contents.back().size()});
    };
    const auto copy = [&](const std::string& name, const std::string& from) {
        write(name, tensors.at(from).dims, tensors.at(from).values);
    };
    copy("token_embd.weight", "model.embed_tokens.weight");
    copy("output_norm.weight", "model.norm.weight");
    copy("output.weight", "lm_head.weight");
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".",
                          to = "blk." + std::to_string(layer) + ".";
        copy(to + "attn_norm.weight", in + "input_layernorm.weight");
        copy(to + "post_attention_norm.weight", in + "post_attention_layernorm.weight");
        copy(to + "attn_sinks.weight", in + "self_attn.sinks");
        for (const std::string part : {".weight", ".bias"}) {
            copy(to + "attn_q" + part, in + "self_attn.q_proj" + part);
            copy(to + "attn_k" + part, in + "self_attn.k_proj" + part);
            copy(to + "attn_v" + part, in + "self_attn.v_proj" + part);
            copy(to + "attn_output" + part, in + "self_attn.o_proj" + part);
            copy(to + "ffn_gate_inp" + part, in + "mlp.router" + part);
            for (const std::string role : {"gate", "up", "down"}) {
                std::vector<float> all;
                std::vector<uint8_t> blocks;
                std::vector<int64_t> dims;
                for (int e = 0; e < f.shape.experts; ++e) {
                    const std::string name =
                        in + "mlp.experts." + std::to_string(e) + "." + role + "_proj" + part;
                    const PlainTensor& one = tensors.at(name);
                    all.insert(all.end(), one.values.begin(), one.values.end());
                    dims = one.dims;
                    if (const auto at = packed.find(name); at != packed.end()) {
                        const std::vector<uint8_t> own = blocksOf(at->second);
                        blocks.insert(blocks.end(), own.begin(), own.end());
                    }
                }
                dims.insert(dims.begin(), f.shape.experts);
                const std::string name = to + "ffn_" + role + "_exps" + part;
                if (blocks.empty()) {
                    write(name, dims, std::move(all));
                    continue;
                }
                contents.push_back(Bytes::of(std::move(blocks)));
                table.push_back(
                    {name, dims, blockTypeOf(getFormat("mxfp4")), contents.back().size()});
            }
        }
    }
    writeGguf(path, m, table, [&](size_t index) { return contents[index]; });
}

/// The same file as it was before experts were stacked, with one tensor for each; `change` may
/// change tensors, or leave them out (false).
void unstack(const Checkpoint& file, const std::filesystem::path& path,
             const std::function<bool(GgufTensor&, Bytes&)>& change = {}) {
    std::vector<GgufTensor> table;
    std::vector<Bytes> contents;
    const auto add = [&](GgufTensor tensor, Bytes bytes) {
        if (change && !change(tensor, bytes))
            return;
        table.push_back(std::move(tensor));
        contents.push_back(std::move(bytes));
    };
    for (const TensorInfo& info : file.tensors) {
        const size_t at = info.name.find("_exps");
        if (at == std::string::npos) {
            add({info.name, info.dims, info.type, info.bytes.size()}, info.bytes);
            continue;
        }
        const uint64_t each = info.bytes.size() / static_cast<uint64_t>(info.experts());
        for (int64_t e = 0; e < info.experts(); ++e) {
            std::string name = info.name;
            name.replace(at, 5, "." + std::to_string(e));
            add({name, {info.dims[1], info.dims[2]}, info.type, each},
                info.bytes.slice(static_cast<uint64_t>(e) * each, each));
        }
    }
    writeGguf(path, file.metadata, table, [&](size_t index) { return contents[index]; });
}

void refuses(const std::function<void()>& write, const char* says) {
    try {
        write();
    } catch (const Error& error) {
        QCOMPARE(error.kind(), ErrorKind::Usage);
        QVERIFY2(std::string(error.what()).find(says) != std::string::npos, error.what());
        return;
    }
    QFAIL("nothing was refused");
}

bool agree(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number())
        return std::fabs(a.get<double>() - b.get<double>()) <= 1e-6 * std::fabs(b.get<double>());
    if (a.is_structured() && b.is_structured() && a.size() == b.size())
        return std::equal(a.begin(), a.end(), b.begin(), agree);
    return a == b;
}

/// A config.json made from a GGUF file says what the family's own folder did.
void checkConfig(const Family& f, const Json& made) {
    QVERIFY(made["architectures"] == Json::array({f.huggingFaceClass}));
    QCOMPARE(made["model_type"].get<std::string>(), f.modelType);
    QCOMPARE(made["tie_word_embeddings"].get<bool>(), f.tied);
    for (const auto& [key, value] : f.config.items())
        QVERIFY2(made.contains(key) && agree(made[key], value), key.c_str());
    for (const char* key : f.keys)
        QVERIFY2(made.contains(key), key);
}

/// The switches of a config, each turned to something else; those that a config does not have
/// change nothing that matters and are left out by `matters`.
struct Switch {
    const char* name;
    std::function<bool(const ModelConfig&)> matters;
    std::function<void(ModelConfig&)> flip;
};

std::vector<Switch> switches() {
    const auto always = [](const ModelConfig&) { return true; };
    const auto anyLayer = [](auto test) {
        return [test](const ModelConfig& c) {
            return std::any_of(c.perLayer.begin(), c.perLayer.end(), test);
        };
    };
    const auto turns = [](const ModelConfig& c) { return c.ropeDimensions > 0; };
    const auto mixes = [](const ModelConfig& c) { return c.experts > 0; };
    return {
        {"norm", always,
         [](ModelConfig& c) {
             c.norm = c.norm == NormKind::Rms ? NormKind::Layer : NormKind::Rms;
         }},
        {"norm epsilon", always, [](ModelConfig& c) { c.normEpsilon = 0.1f; }},
        {"query and key norm",
         [](const ModelConfig& c) { return c.queryKeyNorm != QueryKeyNorm::None; },
         [](ModelConfig& c) { c.queryKeyNorm = QueryKeyNorm::None; }},
        {"rope style", turns,
         [](ModelConfig& c) {
             c.ropeStyle =
                 c.ropeStyle == RopeStyle::Halves ? RopeStyle::Interleaved : RopeStyle::Halves;
         }},
        {"rope base", turns, [](ModelConfig& c) { c.rope.base /= 30; }},
        {"rope scale", turns, [](ModelConfig& c) { c.rope.scale *= 0.5f; }},
        {"rope factors",
         [](const ModelConfig& c) { return !c.rope.factors.empty() && c.longFactors.empty(); },
         [](ModelConfig& c) { c.rope.factors.clear(); }},
        {"long rope factors", [](const ModelConfig& c) { return !c.longFactors.empty(); },
         [](ModelConfig& c) { c.longFactors.clear(); }},
        {"rope magnitude", turns, [](ModelConfig& c) { c.rope.magnitude *= 1.5f; }},
        {"rope dimensions", turns, [](ModelConfig& c) { c.ropeDimensions /= 2; }},
        {"local rope base", [](const ModelConfig& c) { return c.hasLocalRope(); },
         [](ModelConfig& c) { c.localRope.base *= 3; }},
        {"local rope", anyLayer([](const LayerConfig& l) {
             return l.positions == LayerConfig::Positions::Local;
         }),
         [](ModelConfig& c) {
             for (LayerConfig& layer : c.perLayer)
                 layer.positions = LayerConfig::Positions::Global;
         }},
        {"layers without positions",
         anyLayer([](const LayerConfig& l) { return l.positions == LayerConfig::Positions::None; }),
         [](ModelConfig& c) {
             for (LayerConfig& layer : c.perLayer)
                 layer.positions = LayerConfig::Positions::Global;
         }},
        {"windows", anyLayer([](const LayerConfig& l) { return l.window > 0; }),
         [](ModelConfig& c) {
             for (LayerConfig& layer : c.perLayer)
                 layer.window = 0;
         }},
        {"width of windows", anyLayer([](const LayerConfig& l) { return l.window > 0; }),
         [](ModelConfig& c) {
             for (LayerConfig& layer : c.perLayer)
                 layer.window += layer.window > 0;
         }},
        {"activation", always,
         [](ModelConfig& c) {
             c.activation =
                 c.activation == Activation::Silu ? Activation::GeluTanh : Activation::Silu;
         }},
        {"gate", [](const ModelConfig& c) { return c.gated; },
         [](ModelConfig& c) { c.gated = false; }},
        {"embedding scale", always, [](ModelConfig& c) { c.embeddingScale *= 1.5f; }},
        {"residual scale", always, [](ModelConfig& c) { c.residualScale *= 1.5f; }},
        {"attention scale", always,
         [](ModelConfig& c) { c.attentionScale = c.queryScale() * 1.5f; }},
        {"logit scale", always, [](ModelConfig& c) { c.logitScale *= 1.5f; }},
        {"attention cap", [](const ModelConfig& c) { return c.attentionCap > 0; },
         [](ModelConfig& c) { c.attentionCap = 0; }},
        {"logit cap", [](const ModelConfig& c) { return c.logitCap > 0; },
         [](ModelConfig& c) { c.logitCap = 0; }},
        {"convolution taps", [](const ModelConfig& c) { return c.hasConvolutions(); },
         [](ModelConfig& c) { c.convolutionTaps = 2; }},
        {"experts used", mixes, [](ModelConfig& c) { c.expertsUsed = 1; }},
        {"norm of expert weights",
         [](const ModelConfig& c) { return c.experts > 0 && c.expertGate == ExpertGate::Softmax; },
         [](ModelConfig& c) { c.normsExpertWeights = !c.normsExpertWeights; }},
        {"expert scale", mixes, [](ModelConfig& c) { c.expertScale *= 1.5f; }},
        {"shared expert", [](const ModelConfig& c) { return c.sharedFeedForward > 0; },
         [](ModelConfig& c) { c.sharedFeedForward = 0; }},
    };
}

bool sameBytes(const Bytes& a, const Bytes& b) {
    return std::ranges::equal(a.view(), b.view());
}

std::vector<TokenId> prompt() {
    std::vector<TokenId> tokens;
    for (int i = 0; i < 24; ++i)
        tokens.push_back((i * 29 + 7 * i * i + 3) % 80);
    return tokens;
}

std::vector<float> logitsOf(std::shared_ptr<const Model> model, std::shared_ptr<Backend> backend,
                            bool oneByOne = false) {
    const auto runner = makeRunner(model, placeAll(*model, std::move(backend)));
    Session session = runner->newSession();
    const std::vector<TokenId> tokens = prompt();
    if (!oneByOne)
        return runner->append(session, tokens, true);
    std::vector<float> all;
    for (const TokenId token : tokens) {
        const auto row = runner->append(session, {&token, 1});
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

/// The same with the experts of all but the first layer on another backend.
std::vector<float> logitsApart(std::shared_ptr<const Model> model, std::shared_ptr<Backend> mixers,
                               std::shared_ptr<Backend> experts, bool oneByOne = false) {
    RunOptions options;
    options.placement = placeAll(*model, std::move(mixers));
    options.expertLayers = {1, model->config.layers};
    options.expertBackend = std::move(experts);
    options.context = 128;
    options.maxRows = 7;
    options.kFormat = options.vFormat = KvFormat::F32;
    Runner runner(model, options);
    for (const TensorKey key : model->keys())
        runner.setTensor(key, model->load(key));
    Session session = runner.newSession();
    const std::vector<TokenId> tokens = prompt();
    std::vector<float> all;
    for (size_t at = 0, each = oneByOne ? 1 : tokens.size(); at < tokens.size(); at += each) {
        const auto rows = runner.append(session, std::span(tokens).subspan(at, each), true);
        all.insert(all.end(), rows.begin(), rows.end());
    }
    return all;
}

/// At most 7 layers of 7 products that follow each other, with sums of at most 96 terms in float.
constexpr double kRounding = 7 * 7 * 96 * 0x1p-24;
/// What a wrong switch must change at the least.
constexpr double kWrong = 4 * kRounding;

void checkBackends(const std::shared_ptr<const Model>& model, const std::vector<float>& expected) {
    const auto simd = logitsOf(model, openCpu());
    const double error = relativeError(simd, expected);
    QVERIFY2(error < kRounding, qPrintable(QString("simd: %1").arg(error)));
    QVERIFY(logitsOf(model, openCpu(), true) == simd);
    const double plainError = relativeError(logitsOf(model, openCpu(CpuMode::Scalar)), expected);
    QVERIFY2(plainError < kRounding, qPrintable(QString("scalar: %1").arg(plainError)));
    if (model->config.experts > 0) {
        QVERIFY(logitsApart(model, openCpu(), openCpu()) == simd);
        QVERIFY(logitsApart(model, openCpu(), openCpu(), true) == simd);
    }
}

/// Experts on the CPU, and on the device alone.
void checkApart(const std::shared_ptr<const Model>& model, const std::shared_ptr<Backend>& device,
                const std::vector<float>& expected) {
    if (model->config.experts == 0)
        return;
    for (const bool oneByOne : {false, true})
        for (const bool mixes : {false, true}) {
            const auto logits = mixes ? logitsApart(model, device, openCpu(), oneByOne)
                                      : logitsApart(model, openCpu(), device, oneByOne);
            const double error = relativeError(logits, expected);
            QVERIFY2(error < kRounding, qPrintable(QString("apart: %1").arg(error)));
        }
}

/// Every switch of the family, turned, must give other logits.
void checkSwitches(const std::shared_ptr<const Model>& model, const std::vector<float>& expected) {
    for (const Switch& each : switches()) {
        if (!each.matters(model->config))
            continue;
        const auto flipped = std::make_shared<Model>(*model);
        each.flip(flipped->config);
        const double error = relativeError(logitsOf(flipped, openCpu()), expected);
        QVERIFY2(error > kWrong, qPrintable(QString("%1: %2").arg(each.name).arg(error)));
    }
}

void checkStates(const Family& f, const PlainTensors& tensors,
                 const std::shared_ptr<const Model>& model,
                 const std::shared_ptr<Backend>& backend) {
    std::vector<TokenId> text, other;
    for (int i = 0; i < 75; ++i) { // more than two pages
        text.push_back((i * 29 + 7 * i * i + 3) % 80);
        other.push_back((i * 31 + 5 * i * i + 1) % 80);
    }
    const auto plain = [&](std::vector<TokenId> tokens) {
        const auto all = PlainDecoder(f.facts, f.shape, f.names, tensors)
                             .logits(std::vector<int>(tokens.begin(), tokens.end()));
        return std::vector<float>(all.end() - f.shape.vocabulary, all.end());
    };
    const auto joined = [](std::vector<TokenId> a, const std::vector<TokenId>& b, size_t from) {
        a.insert(a.end(), b.begin() + static_cast<int64_t>(from), b.end());
        return a;
    };
    const std::vector<float> expected = plain(text);
    const auto same = [&](const std::vector<float>& logits, const std::vector<float>& wanted) {
        return relativeError(logits, wanted) < kRounding;
    };
    const std::span<const TokenId> all(text);
    for (const int32_t rows : {64, 16, 1}) {
        const auto runner = makeRunner(model, placeAll(*model, backend), ActivationFormat::Float,
                                       rows, KvFormat::F32, 6);
        Session session = runner->newSession();
        QVERIFY(same(runner->append(session, text), expected));

        // In pieces that end in the middle of pages, beside another text in the same calls.
        Session a = runner->newSession(), b = runner->newSession();
        std::vector<float> logits;
        for (size_t at = 0, count = 1; at < text.size(); at += count, count = at % 7 + 1) {
            count = std::min(count, text.size() - at);
            std::vector<ForwardRow> call;
            for (size_t i = at; i < at + count; ++i)
                call.push_back({&a, text[i], -1, i + 1 == text.size()});
            for (size_t i = at; i < at + count; ++i)
                call.push_back({&b, other[i], -1, i + 1 == text.size()});
            ForwardIo io;
            io.logits = &logits;
            runner->forward(call, io);
        }
        const auto half = static_cast<int64_t>(logits.size() / 2);
        QVERIFY(same({logits.begin(), logits.begin() + half}, expected));
        QVERIFY(same({logits.begin() + half, logits.end()}, plain(other)));

        // Two that share their past up to the middle of a page.
        Session first = runner->newSession();
        runner->append(first, all.first(45));
        Session second = first.fork();
        runner->append(first, all.subspan(45, 3));
        const auto changed = runner->append(second, std::span(other).subspan(45));
        QVERIFY(same(changed, plain(joined({text.begin(), text.begin() + 45}, other, 45))));
        QVERIFY(same(runner->append(first, all.subspan(48)), expected));

        // Cut in the middle of a page it goes on from the page's start, at its end from there.
        first.truncate(50);
        QCOMPARE(first.length(), 32);
        QVERIFY(same(runner->append(first, all.subspan(32)), expected));
        first.truncate(75);
        QCOMPARE(first.length(), 75);
        first.truncate(64);
        QCOMPARE(first.length(), 64);
        QVERIFY(same(runner->append(first, all.subspan(64)), expected));

        // A call that was cancelled leaves what can go on.
        Session stopped = runner->newSession();
        runner->append(stopped, all.first(40));
        const std::atomic<bool> cancel = true;
        try { // what is recorded already on a GPU runs through
            runner->append(stopped, all.subspan(40, 8), false, nullptr, &cancel);
            QVERIFY(backend->info().kind != "cpu");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Cancelled);
            QCOMPARE(stopped.length(), 32);
        }
        QVERIFY(same(runner->append(stopped, all.subspan(size_t(stopped.length()))), expected));
    }
    // Whole layers on another device.
    const auto split = makeRunner(model, {{{0, 1}, openCpu()}, {{1, 4}, backend}});
    Session session = split->newSession();
    QVERIFY(same(split->append(session, text), expected));
    QCOMPARE(split->memory().kv,
             predictMemory(*model, split->options(), [](TensorKey) { return 0; })[0].kv +
                 predictMemory(*model, split->options(), [](TensorKey) { return 0; })[1].kv);
}

} // namespace

class TestFamilies : public QObject {
    Q_OBJECT
    std::vector<Family> m_families = families();

private slots:
    void everyFamilyIsHere() {
        std::set<std::string> known, tested;
        for (const Architecture* a : architectures())
            known.insert(a->huggingFaceClass);
        for (const Family& f : m_families)
            tested.insert(f.huggingFaceClass);
        QVERIFY(known == tested);
    }

    void family_data() {
        QTest::addColumn<int>("index");
        for (size_t i = 0; i < m_families.size(); ++i)
            QTest::addRow("%s", m_families[i].huggingFaceClass.c_str()) << int(i);
    }
    void family() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, tensors, path);
        const std::vector<TokenId> tokens = prompt();
        const std::vector<float> expected =
            PlainDecoder(f.facts, f.shape, f.names, tensors)
                .logits(std::vector<int>(tokens.begin(), tokens.end()));

        const auto model = openModel(path);
        QCOMPARE(model->unsupported, std::string());
        checkBackends(model, expected);
        exportGguf(*model, Recipe{}, path / "model.gguf", {});
        const auto file = openModel(path / "model.gguf");
        QCOMPARE(file->unsupported, std::string());
        const double error = relativeError(logitsOf(file, openCpu()), expected);
        QVERIFY2(error < kRounding, qPrintable(QString("gguf: %1").arg(error)));
        checkSwitches(model, expected);
    }

    /// What is written for other engines and read again is what the quantizer made, also where the
    /// folder was a GGUF file in between: no bit of any logit differs.
    void asQuantizedFolder_data() { family_data(); }
    void asQuantizedFolder() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const PlainTensors tensors = randomTensors(f);
        writeFolder(f, tensors, path);
        const auto model = openModel(path);
        Recipe recipe;
        recipe.rules.push_back({.match = "blk.*", .format = "int4_g32"});
        if (!f.names.sinks.empty()) { // stacked experts: said, not done
            refuses([&] { exportFolder(*model, recipe, "gptq", path / "out"); },
                    "\"gpt-oss\" keep stacks of experts");
            return;
        }
        const auto runner = makeRunner(model, placeAll(*model, openCpu()));
        Quantizer quantizer(*model, recipe, nullptr);
        for (const TensorKey key : model->keys())
            runner->setTensor(key, quantizer.tensor(key, {}), ActivationFormat::Float);
        Session session = runner->newSession();
        const std::vector<float> expected = runner->append(session, prompt(), true);

        exportGguf(*model, Recipe{}, path / "model.gguf", {});
        const auto file = openModel(path / "model.gguf");
        for (const auto& base : {model, file}) {
            exportFolder(*base, recipe, "gptq", path / "out");
            const auto again = openModel(path / "out");
            QCOMPARE(again->unsupported, std::string());
            for (const auto& [name, tensor] : tensors) {
                const TensorInfo& info = again->checkpoint->get(name);
                std::vector<int64_t> dims = tensor.dims;
                if (info.packed && f.facts.transposed)
                    std::ranges::reverse(dims);
                QVERIFY2(info.dims == dims, name.c_str());
            }
            for (const TensorKey key : again->keys())
                if (isMatrix(key.role) && key.layer >= 0)
                    QCOMPARE(std::string(again->get(key).format()->name), std::string("int4_g32"));
            QVERIFY(logitsOf(again, openCpu()) == expected);
            exportFolder(*again, Recipe{}, "gptq", path / "copy"); // as it is stored
            QVERIFY(logitsOf(openModel(path / "copy"), openCpu()) == expected);
        }
        checkConfig(f, Json::parse(std::ifstream(path / "out" / "config.json")));
        if (f.facts.transposed) { // whose tools quantize no such layers
            refuses([&] { exportFolder(*file, recipe, "awq", path / "awq"); },
                    "\"gpt2\" keep matrices as [inputs][outputs]");
            return;
        }
        exportFolder(*file, recipe, "compressed-tensors", path / "ct");
        QVERIFY(logitsOf(openModel(path / "ct"), openCpu()) == expected);
    }

    /// A config.json made from a GGUF file says every switch, or it is not made.
    void everySwitchIsSaidOrRefused_data() { family_data(); }
    void everySwitchIsSaidOrRefused() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "model.gguf", {});
        const auto model = openModel(path / "model.gguf");
        if (!f.names.sinks.empty()) {
            refuses([&] { huggingFaceConfig(*model); }, "family \"gpt-oss\"");
            return;
        }
        const std::string whole = huggingFaceConfig(*model);
        for (const Switch& each : switches()) {
            // Rows of heads are written in the order of folders.
            if (!each.matters(model->config) || each.name == std::string_view("rope style"))
                continue;
            const auto flipped = std::make_shared<Model>(*model);
            each.flip(flipped->config);
            try {
                QVERIFY2(huggingFaceConfig(*flipped) != whole, each.name);
            } catch (const Error& error) {
                QCOMPARE(error.kind(), ErrorKind::Usage);
            }
        }
    }

    /// Version 5 of transformers keeps what rotates in "rope_parameters".
    void newerConfigsSayTheSame_data() { family_data(); }
    void newerConfigsSayTheSame() {
        QFETCH(int, index);
        Family f = m_families[size_t(index)];
        if (f.facts.rotated > 0) // bases that are no defaults, so that a lost one is seen
            f.config["rope_theta"] = 3000.0;
        if (f.config.contains("rope_local_base_freq"))
            f.config["rope_local_base_freq"] = 700.0;
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, tensors, path);
        const auto expected = logitsOf(openModel(path), openCpu());
        Json rope = f.config.value("rope_scaling", Json{{"rope_type", "default"}});
        f.config.erase("rope_scaling");
        for (const char* key : {"rope_theta", "partial_rotary_factor"})
            if (f.config.contains(key)) {
                rope[key] = f.config[key];
                f.config.erase(key);
            }
        if (f.config.contains("rope_local_base_freq")) {
            rope = {{"full_attention", rope},
                    {"sliding_attention",
                     {{"rope_type", "default"}, {"rope_theta", f.config["rope_local_base_freq"]}}}};
            f.config.erase("rope_local_base_freq");
        }
        f.config["rope_parameters"] = rope;
        writeFolder(f, tensors, path);
        QVERIFY(logitsOf(openModel(path), openCpu()) == expected);
    }

    /// GGUF files keep the factors alone, from which the setting is found again.
    void llama3ScalingIsFoundAgain() {
        for (const auto& [factor, context] : {std::pair{8, 8192}, {32, 8192}, {5, 100}}) {
            Family f = plain("LlamaForCausalLM");
            f.config["rope_theta"] = 500000.0;
            f.config["rope_scaling"] = {{"rope_type", "llama3"},
                                        {"factor", factor},
                                        {"low_freq_factor", 1.0},
                                        {"high_freq_factor", 4.0},
                                        {"original_max_position_embeddings", context}};
            const QTemporaryDir folder;
            const std::filesystem::path path = folder.path().toStdString();
            writeFolder(f, randomTensors(f), path);
            exportGguf(*openModel(path), Recipe{}, path / "model.gguf", {});
            const Json made = Json::parse(huggingFaceConfig(*openModel(path / "model.gguf")));
            QVERIFY2(made["rope_scaling"] == f.config["rope_scaling"],
                     made["rope_scaling"].dump().c_str());
        }
    }

    void gptOssFromGguf() {
        const Family f = gptOss();
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeGptOss(f, tensors, path / "model.gguf");
        const std::vector<TokenId> tokens = prompt();
        const std::vector<float> expected =
            PlainDecoder(f.facts, f.shape, f.names, tensors)
                .logits(std::vector<int>(tokens.begin(), tokens.end()));
        const auto model = openModel(path / "model.gguf");
        QCOMPARE(model->unsupported, std::string());
        checkBackends(model, expected);
        checkSwitches(model, expected);
        exportGguf(*model, Recipe{}, path / "again.gguf", {});
        QVERIFY(logitsOf(openModel(path / "again.gguf"), openCpu()) == logitsOf(model, openCpu()));
        NIBBLE_NEED_LAVAPIPE(backend);
        QVERIFY(relativeError(logitsOf(model, backend), expected) < kRounding);
        checkApart(model, backend, expected);
    }

    /// However a text is cut into calls, sessions and forks, a hybrid's states follow.
    void statesOfConvolutions_data() {
        QTest::addColumn<bool>("vulkan");
        QTest::addRow("cpu") << false;
        QTest::addRow("vulkan") << true;
    }
    void statesOfConvolutions() {
        QFETCH(bool, vulkan);
        std::shared_ptr<Backend> backend = openCpu();
        if (vulkan) {
            NIBBLE_NEED_LAVAPIPE(lavapipe);
            backend = lavapipe;
        }
        const auto f = std::find_if(m_families.begin(), m_families.end(), [](const Family& each) {
            return each.huggingFaceClass == "Lfm2ForCausalLM";
        });
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const PlainTensors tensors = randomTensors(*f);
        writeFolder(*f, tensors, path);
        const auto model = openModel(path);
        checkStates(*f, tensors, model, backend);
    }

    /// Packed experts run as they are: the planes are those of the same model in a GGUF file.
    void gptOssPacked() {
        const Family f = gptOss();
        PlainTensors tensors = randomTensors(f);
        const Mxfp4s packed = makePacked(tensors);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const auto model = openModel(packedFolder(f, tensors, packed).write(path / "folder"));
        QCOMPARE(model->unsupported, std::string());
        const std::vector<TokenId> tokens = prompt();
        checkBackends(model, PlainDecoder(f.facts, f.shape, f.names, tensors)
                                 .logits(std::vector<int>(tokens.begin(), tokens.end())));
        QCOMPARE(model->get({Role::Up, 0, 0}).storedText(), std::string("mxfp4"));
        writeGptOss(f, tensors, path / "model.gguf", packed);
        const auto file = openModel(path / "model.gguf");
        int compared = 0;
        for (const TensorKey key : model->keys()) {
            const Tensor a = model->load(key), b = file->load(key);
            QCOMPARE(std::string(a.format->name), std::string(b.format->name));
            QVERIFY(sameBytes(a.codes, b.codes) && sameBytes(a.scales, b.scales));
            compared += a.format == &getFormat("mxfp4");
        }
        QCOMPARE(compared, 3 * f.shape.layers * f.shape.experts);
        const auto logits = logitsOf(model, openCpu());
        QVERIFY(logitsOf(file, openCpu()) == logits);
        exportGguf(*model, Recipe{}, path / "again.gguf", {});
        const auto again = openModel(path / "again.gguf");
        QCOMPARE(std::string(again->get({Role::Up, 0, 0}).type->name), std::string("mxfp4"));
        QVERIFY(logitsOf(again, openCpu()) == logits);
        NIBBLE_NEED_LAVAPIPE(backend);
        QVERIFY(relativeError(logitsOf(model, backend), logits) < kRounding);
    }

    void gptOssDamageIsNamed_data() {
        QTest::addColumn<QString>("tensor");
        QTest::addColumn<int>("halves"); ///< this dimension; −1: the tensor is missing
        QTest::addColumn<QString>("says");
        const QString in = "model.layers.1.mlp.experts.";
        QTest::addRow("scales are missing") << in + "down_proj_scales" << -1 << "is missing beside";
        QTest::addRow("blocks are missing")
            << in + "gate_up_proj_blocks" << -1 << "\"" + in + "gate_up_proj_blocks\" is missing";
        QTest::addRow("a bias is missing")
            << in + "gate_up_proj_bias" << -1 << "\"" + in + "gate_up_proj_bias\" is missing";
        QTest::addRow("blocks of another width")
            << in + "down_proj_blocks" << 3 << "[4, 64, 3, 8], where [4, 64, 3, 16]";
        QTest::addRow("fewer blocks than scales")
            << in + "gate_up_proj_blocks" << 1 << "[4, 96, 2, 16], where [4, 192, 2, 16]";
        QTest::addRow("scales of fewer experts")
            << in + "gate_up_proj_scales" << 0 << "[4, 192, 2, 16], where [2, 192, 2, 16]";
        QTest::addRow("biases of fewer rows") << in + "gate_up_proj_bias" << 1
                                              << "is [4, 96], but the model's configuration asks "
                                                 "for [4, 192]";
    }
    void gptOssDamageIsNamed() {
        QFETCH(QString, tensor);
        QFETCH(int, halves);
        QFETCH(QString, says);
        const Family f = gptOss();
        PlainTensors tensors = randomTensors(f);
        const Mxfp4s packed = makePacked(tensors);
        PackedFolder folder = packedFolder(f, tensors, packed);
        const auto at = folder.tensors.find(tensor.toStdString());
        QVERIFY(at != folder.tensors.end());
        if (halves < 0) {
            folder.tensors.erase(at);
        } else {
            at->second.dims[size_t(halves)] /= 2;
            at->second.bytes.resize(at->second.bytes.size() / 2);
        }
        const QTemporaryDir place;
        const auto path = folder.write(place.path().toStdString());
        try {
            openModel(path);
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains(says), error.what());
            return;
        }
        QFAIL("it was opened");
    }

    /// Stacks of floats of other shapes, and settings that the forward pass does not have.
    void gptOssMisfitsAreNamed() {
        const Family f = gptOss();
        const QTemporaryDir place;
        const std::filesystem::path path = place.path().toStdString();
        Family other = f;
        other.config["swiglu_limit"] = 5.0;
        writeFolder(other, randomTensors(f), path);
        QVERIFY(openModel(path)->unsupported.find("\"swiglu_limit\" of 5") != std::string::npos);
        other = f;
        other.config["num_local_experts"] = 3;
        writeFolder(other, randomTensors(f), path);
        QVERIFY_EXCEPTION_THROWN(openModel(path), Error);
        other = f;
        other.shape.feedForward = 48;
        writeFolder(other, randomTensors(f), path);
        try {
            openModel(path);
            QFAIL("it was opened");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains("asks for [4, 48, 64]"), error.what());
        }
    }

    /// Old files keep one tensor an expert; what is written from them is stacked.
    void unstackedExperts() {
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const Family& f =
            *std::ranges::find(m_families, "MixtralForCausalLM", &Family::huggingFaceClass);
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "stacked.gguf", {});
        const auto stacked = openModel(path / "stacked.gguf");
        unstack(*stacked->checkpoint, path / "old.gguf");
        const auto old = openModel(path / "old.gguf");
        QCOMPARE(old->unsupported, std::string());
        QVERIFY(!old->checkpoint->find("blk.0.ffn_gate_exps.weight"));
        QCOMPARE(old->get({Role::Gate, 1, 3}).name, std::string("blk.1.ffn_gate.3.weight"));
        QVERIFY(std::ranges::equal(old->keys(), stacked->keys()));
        const auto logits = logitsOf(stacked, openCpu());
        QVERIFY(logitsOf(old, openCpu()) == logits);

        Recipe recipe;
        recipe.rules.push_back({.match = "blk.*.ffn_*", .format = "q8_0"});
        for (const Recipe& each : {Recipe{}, recipe}) {
            exportGguf(*stacked, each, path / "a.gguf", {});
            exportGguf(*old, each, path / "b.gguf", {});
            const auto a = openCheckpoint(path / "a.gguf"), b = openCheckpoint(path / "b.gguf");
            QCOMPARE(a->tensors.size(), b->tensors.size());
            for (const TensorInfo& info : a->tensors) {
                QCOMPARE(b->get(info.name).dims, info.dims);
                QCOMPARE(b->get(info.name).type, info.type);
                QVERIFY2(sameBytes(b->get(info.name).bytes, info.bytes), info.name.c_str());
            }
        }
    }

    void unstackedExpertsThatDoNotFit_data() {
        QTest::addColumn<QString>("from"); ///< the tensor that has `to` as its name
        QTest::addColumn<QString>("to");
        QTest::addColumn<QString>("says");
        QTest::addRow("one is missing") << "blk.1.ffn_up.3.weight"
                                        << ""
                                        << "\"blk.1.ffn_up_exps.weight\" is missing";
        QTest::addRow("one too many") << "blk.1.ffn_up.3.weight"
                                      << "blk.1.ffn_up.4.weight"
                                      << "\"blk.1.ffn_up.4.weight\" that the forward pass";
        QTest::addRow("another shape") << "blk.0.attn_k.weight"
                                       << "blk.1.ffn_up.3.weight"
                                       << "\"blk.1.ffn_up.3.weight\" has 32 x 64 values";
        QTest::addRow("another format")
            << "blk.1.ffn_up.3.weight"
            << "f16"
            << "keeps expert 3 of \"blk.1.ffn_up\" as f16 and the first as f32";
    }
    void unstackedExpertsThatDoNotFit() {
        QFETCH(QString, from);
        QFETCH(QString, to);
        QFETCH(QString, says);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const Family& f =
            *std::ranges::find(m_families, "MixtralForCausalLM", &Family::huggingFaceClass);
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "stacked.gguf", {});
        const std::string was = from.toStdString(), is = to.toStdString();
        unstack(*openCheckpoint(path / "stacked.gguf"), path / "old.gguf",
                [&](GgufTensor& tensor, Bytes& bytes) {
                    if (tensor.name == is)
                        return false;
                    if (tensor.name != was)
                        return true;
                    if (is == "f16") {
                        tensor.type = blockTypeOf(getFormat("f16"));
                        tensor.bytes /= 2;
                        bytes = bytes.slice(0, tensor.bytes);
                    } else {
                        tensor.name = is;
                    }
                    return !is.empty();
                });
        const auto model = openForInspection(path / "old.gguf");
        QVERIFY2(QString::fromStdString(model->unsupported).contains(says),
                 model->unsupported.c_str());
    }

    void onVulkan_data() { family_data(); }
    void onVulkan() {
        QFETCH(int, index);
        NIBBLE_NEED_LAVAPIPE(backend);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, randomTensors(f), path);
        const auto model = openModel(path);
        const auto expected = logitsOf(model, openCpu(CpuMode::Scalar));
        for (const bool oneByOne : {false, true}) {
            const double error = relativeError(logitsOf(model, backend, oneByOne), expected);
            QVERIFY2(error < kRounding, qPrintable(QString::number(error)));
        }
        checkApart(model, backend, expected);
    }
};

QTEST_GUILESS_MAIN(TestFamilies)
#include "test_families.moc"
