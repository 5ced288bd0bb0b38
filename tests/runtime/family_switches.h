#pragma once

#include "tests/runtime/family_models.h"

namespace nibble::test {

/// The switches of a config, each turned to something else; those that a config does not have
/// change nothing that matters and are left out by `matters`.
struct Switch {
    const char* name;
    std::function<bool(const ModelConfig&)> matters;
    std::function<void(ModelConfig&)> flip;
};

inline std::vector<Switch> switches() {
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

/// Every switch of the family, turned, must give other logits.
inline void checkSwitches(const std::shared_ptr<const Model>& model,
                          const std::vector<float>& expected) {
    for (const Switch& each : switches()) {
        if (!each.matters(model->config))
            continue;
        const auto flipped = std::make_shared<Model>(*model);
        each.flip(flipped->config);
        const double error = relativeError(logitsOf(flipped, openCpu()), expected);
        QVERIFY2(error > kWrong, qPrintable(QString("%1: %2").arg(each.name).arg(error)));
    }
}

} // namespace nibble::test
