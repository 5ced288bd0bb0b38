#include "core/quant/mixes.h"

#include "core/model/names.h"

#include <algorithm>
#include <string>

namespace nibble {
namespace {

/// What a mix looks at in a model.
struct Shape {
    int32_t layers;
    int32_t queriesPerValue; ///< query heads that share a value head
};

using Choose = const char* (*)(const Shape& shape, Role role, int32_t layer);

/// The layers whose errors cost most: the first and last eighth, and every third between.
bool needsMoreBits(int32_t layer, int32_t layers) {
    const int32_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

/// The largest models share each value head among so many that its few values get 5 bits at least.
bool isLargeAndShared(const Shape& shape) {
    return shape.layers == 80 && shape.queriesPerValue > 1;
}

const char* q6k(const Shape&, Role, int32_t) {
    return "q6_k";
}

const char* q5kM(const Shape& shape, Role role, int32_t layer) {
    const bool counts = role == Role::Value || role == Role::Down;
    return counts && needsMoreBits(layer, shape.layers) ? "q6_k" : "q5_k";
}

const char* q4kM(const Shape& shape, Role role, int32_t layer) {
    if ((role == Role::Value || role == Role::Down) && needsMoreBits(layer, shape.layers))
        return "q6_k";
    return role == Role::Value && isLargeAndShared(shape) ? "q5_k" : "q4_k";
}

const char* q4kS(const Shape& shape, Role role, int32_t layer) {
    if (role == Role::Value && (layer < 4 || isLargeAndShared(shape)))
        return "q5_k";
    return role == Role::Down && layer < shape.layers / 8 ? "q5_k" : "q4_k";
}

const char* iq4Xs(const Shape& shape, Role role, int32_t layer) {
    if (role == Role::Value && shape.queriesPerValue >= 4)
        return "q5_k";
    return role == Role::Down && layer < shape.layers / 8 ? "q5_k" : "iq4_xs";
}

const char* q3kM(const Shape& shape, Role role, int32_t layer) {
    if (role == Role::Value)
        return layer < 2 || isLargeAndShared(shape) ? "q5_k" : "q4_k";
    if (role == Role::Down)
        return layer < shape.layers / 16 ? "q5_k" : "q4_k";
    return role == Role::AttentionOutput ? "q4_k" : "q3_k";
}

const char* q2k(const Shape& shape, Role role, int32_t) {
    if (role == Role::Value)
        return isLargeAndShared(shape) ? "q5_k" : shape.queriesPerValue >= 4 ? "q4_k" : "q3_k";
    return role == Role::Down || role == Role::AttentionOutput ? "q3_k" : "q2_k";
}

struct Mix {
    const char* name;
    const char* main; ///< of whatever is not named
    Choose choose;
};
constexpr Mix kMixes[] = {
    {"q6_k", "q6_k", q6k},    {"q5_k_m", "q5_k", q5kM},    {"q4_k_m", "q4_k", q4kM},
    {"q4_k_s", "q4_k", q4kS}, {"iq4_xs", "iq4_xs", iq4Xs}, {"q3_k_m", "q3_k", q3kM},
    {"q2_k", "q2_k", q2k},
};

constexpr Role kLayerMatrices[] = {Role::Query, Role::Key, Role::Value, Role::AttentionOutput,
                                   Role::Gate,  Role::Up,  Role::Down};

} // namespace

Recipe mixRecipe(const Model& model, std::string_view name) {
    const Mix& mix = *std::find_if(std::begin(kMixes), std::end(kMixes),
                                   [&](const Mix& candidate) { return candidate.name == name; });
    const ModelConfig& config = model.config;
    const Shape shape{config.layers, config.kvHeads > 0 ? config.heads / config.kvHeads : 1};
    Recipe recipe;
    recipe.name = name;
    const auto rule = [&](std::string match, std::string_view format) {
        RecipeRule& added = recipe.rules.emplace_back();
        added.match = std::move(match);
        added.format = format;
        added.activations = "int8";
    };
    rule("*", mix.main);
    // The head decides every token; an embedding that is the head as well gets its format.
    if (std::string_view(mix.main) != "q6_k")
        rule(tensorName(model.headKey()), "q6_k");
    for (const Role role : kLayerMatrices) {
        const auto of = [&](int32_t layer) {
            return std::string_view(mix.choose(shape, role, layer));
        };
        bool alike = true;
        for (int32_t layer = 1; layer < shape.layers; ++layer)
            alike &= of(layer) == of(0);
        if (alike && shape.layers > 0 && of(0) != mix.main) {
            std::string match = tensorName({role, 0});
            match.replace(match.find(".0."), 3, ".*.");
            rule(std::move(match), of(0));
        }
        if (!alike)
            for (int32_t layer = 0; layer < shape.layers; ++layer)
                if (of(layer) != mix.main)
                    rule(tensorName({role, layer}), of(layer));
    }
    return recipe;
}

} // namespace nibble
