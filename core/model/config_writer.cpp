#include "core/model/config_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

/// Factors that are stored and those that a setting gives may round differently.
constexpr float kFactorError = 1e-4f;

bool sameFactors(const std::vector<float>& a, const std::vector<float>& b) {
    return std::ranges::equal(
        a, b, [](float x, float y) { return std::fabs(x - y) <= kFactorError * y; });
}

Json yarnScaling(const YarnSettings& yarn) {
    Json out = {{"rope_type", "yarn"},
                {"factor", yarn.factor},
                {"original_max_position_embeddings", int64_t(yarn.originalContext)},
                {"beta_fast", yarn.betaFast},
                {"beta_slow", yarn.betaSlow}};
    const auto magnitude = static_cast<float>(yarn.magnitude);
    if (magnitude != static_cast<float>(1 + 0.1 * std::log(yarn.factor)))
        out["attention_factor"] = shortest(magnitude);
    if (!yarn.wholePairs)
        out["truncate"] = false;
    return out;
}

Json longScaling(const ModelConfig& c) {
    const auto list = [](const std::vector<float>& factors) {
        Json out = Json::array();
        for (const float factor : factors)
            out.push_back(shortest(factor));
        return out;
    };
    // Only these three: transformers refuses others, and works the magnitude out.
    return {{"type", "longrope"},
            {"short_factor", list(c.rope.factors)},
            {"long_factor", list(c.longFactors)}};
}

/// Llama 3.1's setting, of which GGUF files keep the factors alone: the largest is its "factor",
/// and any between tells how often its pair turns within the original context.
Json llama3Scaling(const Model& model) {
    constexpr double kLow = 1, kHigh = 4; // of every published setting
    const ModelConfig& c = model.config;
    const double factor = double(*std::ranges::max_element(c.rope.factors));
    std::vector<double> contexts{8192};
    for (size_t i = 0; i < c.rope.factors.size(); ++i) {
        const double own = double(c.rope.factors[i]);
        if (own <= 1 || own >= factor)
            continue;
        const double turns = kLow + (kHigh - kLow) * (1 / own - 1 / factor) / (1 - 1 / factor);
        const double exponent = 2.0 * static_cast<double>(i) / c.ropeDimensions;
        contexts.push_back(
            std::round(turns * 2 * std::numbers::pi * std::pow(double(c.rope.base), exponent)));
    }
    for (const double context : contexts)
        if (sameFactors(llama3RopeFactors(c, factor, kLow, kHigh, context), c.rope.factors))
            return {{"rope_type", "llama3"},
                    {"factor", shortest(static_cast<float>(factor))},
                    {"low_freq_factor", kLow},
                    {"high_freq_factor", kHigh},
                    {"original_max_position_embeddings", int64_t(context)}};
    cannotSay(model, "its rotary factors, which are not those of Llama 3.1's setting");
}

int32_t widestWindow(const ModelConfig& c) {
    int32_t window = 0;
    for (const LayerConfig& layer : c.perLayer)
        window = std::max(window, layer.window);
    return window;
}

Json orNull(int32_t count) {
    return count > 0 ? Json(count) : Json();
}

} // namespace

void cannotSay(const Model& model, std::string_view what) {
    fail(ErrorKind::Usage,
         "No config.json of the family \"{}\" can say {}, so no folder of this model can be "
         "written; export gguf.",
         printable(model.config.architecture), what);
}

double shortest(float value) {
    return std::stod(fmt::format("{}", value));
}

Json capOrNull(float cap) {
    return cap > 0 ? Json(shortest(cap)) : Json();
}

float reciprocalOf(float value) {
    const float near = 1 / value;
    for (const float each : {near, std::nextafter(near, 0.0f), std::nextafter(near, 2 * near)})
        if (1 / each == value)
            return each;
    return near;
}

void writeRope(const Model& model, Json& out) {
    const ModelConfig& c = model.config;
    out["rope_theta"] = shortest(c.rope.base);
    if (c.ropeDimensions != c.headSize) {
        double part = double(c.ropeDimensions) / c.headSize;
        while (static_cast<int32_t>(part * c.headSize) < c.ropeDimensions)
            part = std::nextafter(part, 1.0);
        out["partial_rotary_factor"] = part;
    }
    if (c.yarn) {
        out["rope_scaling"] = yarnScaling(*c.yarn);
    } else if (!c.longFactors.empty()) {
        out["rope_scaling"] = longScaling(c);
        out["original_max_position_embeddings"] = c.originalContext;
    } else if (!c.rope.factors.empty()) {
        out["rope_scaling"] = llama3Scaling(model);
    } else if (c.rope.scale != 1) {
        out["rope_scaling"] = {{"rope_type", "linear"},
                               {"factor", shortest(reciprocalOf(c.rope.scale))}};
    } else {
        out["rope_scaling"] = nullptr;
    }
}

void writeBiases(const Model& model, Json& out) {
    out["attention_bias"] = model.find({Role::QueryBias, 0}) != nullptr;
    out["mlp_bias"] = model.find({Role::UpBias, 0}) != nullptr;
}

void refuseBiases(const Model& model, bool ofQueries) {
    for (const Role role : {Role::QueryBias, Role::AttentionOutputBias, Role::UpBias})
        if ((role != Role::QueryBias || ofQueries) && model.find({role, 0}))
            cannotSay(model, fmt::format("its \"{}\"", shortName(role)));
}

void writeWindow(const Model& model, Json& out) {
    out["sliding_window"] = orNull(widestWindow(model.config));
}

void writeLayerTypes(const Model& model, Json& out) {
    writeWindow(model, out);
    Json types = Json::array();
    for (const LayerConfig& layer : model.config.perLayer)
        types.push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    out["layer_types"] = std::move(types);
}

void writeUpperWindows(const Model& model, Json& out) {
    const ModelConfig& c = model.config;
    const int32_t window = widestWindow(c);
    out["use_sliding_window"] = window > 0;
    writeWindow(model, out);
    const auto first =
        std::ranges::find_if(c.perLayer, [](const LayerConfig& layer) { return layer.window > 0; });
    out["max_window_layers"] = first - c.perLayer.begin();
    if (window > 0)
        writeLayerTypes(model, out);
}

void writeQwenExperts(const Model& model, Json& out) {
    const ModelConfig& c = model.config;
    out["num_experts"] = c.experts;
    out["num_experts_per_tok"] = c.expertsUsed;
    out["moe_intermediate_size"] = c.expertFeedForward;
    out["norm_topk_prob"] = c.normsExpertWeights;
    out["decoder_sparse_step"] = 1;
    Json dense = Json::array();
    for (size_t i = 0; i < c.perLayer.size(); ++i)
        if (!c.perLayer[i].experts)
            dense.push_back(i);
    out["mlp_only_layers"] = std::move(dense);
    out["output_router_logits"] = false;
    out["router_aux_loss_coef"] = 0.001;
}

void writeQueryScalar(const Model& model, Json& out) {
    const float scale = model.config.queryScale();
    const float scalar = 1 / (scale * scale), whole = std::round(scalar);
    // The published ones are whole numbers, and newer versions of transformers want one.
    if (1 / std::sqrt(whole) == scale) {
        out["query_pre_attn_scalar"] = static_cast<int64_t>(whole);
        return;
    }
    float exact = scalar;
    for (int step = -4; step <= 4 && 1 / std::sqrt(exact) != scale; ++step)
        exact = scalar * (1 + static_cast<float>(step) * 0x1p-23f);
    out["query_pre_attn_scalar"] = shortest(exact);
}

std::string configDifference(const ModelConfig& a, const ModelConfig& b) {
    const auto mixes = [](const LayerConfig& layer) { return layer.experts; };
    const bool dense = !std::ranges::all_of(a.perLayer, mixes), mixed = a.experts > 0;
    const bool turns = a.ropeDimensions > 0;
    const auto perLayer = [](const ModelConfig& c) {
        return c.perLayer.empty() ? std::vector<LayerConfig>(static_cast<size_t>(c.layers))
                                  : c.perLayer;
    };
    const std::pair<const char*, bool> same[] = {
        {"the number of its layers", a.layers == b.layers},
        {"its width", a.width == b.width},
        {"its heads", a.heads == b.heads && a.kvHeads == b.kvHeads && a.headSize == b.headSize},
        {"its feed-forward width", !dense || a.feedForward == b.feedForward},
        {"its vocabulary", a.vocabulary == b.vocabulary},
        {"its context", a.contextLength == b.contextLength},
        {"its norms", a.norm == b.norm && a.normEpsilon == b.normEpsilon &&
                          a.postNorms == b.postNorms && a.queryKeyNorm == b.queryKeyNorm},
        {"the width of its rotation", a.ropeDimensions == b.ropeDimensions},
        {"the base of its rotation", !turns || a.rope.base == b.rope.base},
        {"the scale of its rotation",
         !turns || (a.rope.scale == b.rope.scale && a.rope.magnitude == b.rope.magnitude)},
        {"its rotary factors",
         sameFactors(a.rope.factors, b.rope.factors) && sameFactors(a.longFactors, b.longFactors)},
        {"the context that it was stretched from",
         a.longFactors.empty() || a.originalContext == b.originalContext},
        {"the rotation of its windows", !a.hasLocalRope() || a.localRope == b.localRope},
        {"its head", a.tiedEmbedding == b.tiedEmbedding},
        {"its activation", a.activation == b.activation && a.gated == b.gated},
        {"its scales", a.embeddingScale == b.embeddingScale && a.residualScale == b.residualScale &&
                           a.logitScale == b.logitScale && a.queryScale() == b.queryScale()},
        {"its caps", a.attentionCap == b.attentionCap && a.logitCap == b.logitCap},
        {"its experts",
         a.experts == b.experts && (!mixed || (a.expertsUsed == b.expertsUsed &&
                                               a.expertFeedForward == b.expertFeedForward &&
                                               a.expertScale == b.expertScale))},
        {"how its experts are weighed",
         !mixed || (a.expertGate == b.expertGate && (a.normsExpertWeights == b.normsExpertWeights ||
                                                     a.expertGate == ExpertGate::SoftmaxOfChosen))},
        {"its convolutions", a.convolutionTaps == b.convolutionTaps},
        {"its shared expert", !mixed || a.sharedFeedForward == b.sharedFeedForward},
        {"what differs from layer to layer", perLayer(a) == perLayer(b)},
    };
    for (const auto& [what, isSame] : same)
        if (!isSame)
            return what;
    return {};
}

} // namespace nibble
