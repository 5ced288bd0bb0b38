#pragma once

#include "tests/support/plain_decoder.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numbers>

/// Every family as its published code has it.
namespace nibble::test {

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

inline double silu(double x) {
    return x / (1 + std::exp(-x));
}

inline double geluTanh(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

inline std::function<double(int, int)> turning(double base, int rotated) {
    return [=](int, int pair) { return std::pow(base, -2.0 * pair / rotated); };
}

inline Family plain(const std::string& name) {
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

inline void makeMixture(Family& f, const char* count) {
    f.shape.experts = 4;
    f.shape.expertsUsed = 2;
    f.facts.mixture = [](int) { return true; };
    f.config[count] = 4;
    f.config["num_experts_per_tok"] = 2;
}

/// YaRN: pairs below `low` keep their frequency, those above `high` are stretched four times.
inline void useYarn(Family& f, bool rounded = true) {
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

inline void makeGemma(Family& f) {
    f.tied = true;
    f.facts.normOffset = 1;
    f.facts.activation = geluTanh;
    f.facts.embeddingScale = 8; // sqrt(width)
    f.config["hidden_act"] = "gelu_pytorch_tanh";
}

inline void makeGemma2(Family& f) {
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

inline const ConfigKeys kConfigKeys[] = {
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

inline Family gptOss() {
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

inline std::vector<Family> families() {
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

} // namespace nibble::test
