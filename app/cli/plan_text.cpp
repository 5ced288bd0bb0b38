#include "app/cli/plan_text.h"

#include "app/cli/interrupt.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace nibble::cli {

Json describe(const LoadPlan& plan) {
    Json parts = Json::array();
    for (const PlanPart& part : plan.parts)
        parts.push_back(
            {{"device", part.device.id},
             {"name", part.device.name},
             {"first_layer", part.layers.begin},
             {"layers", part.layers.end - part.layers.begin},
             {"layers_without_experts", part.withoutExperts},
             {"layers_of_experts", part.expertLayers},
             {"experts", part.expertBytes},
             {"experts_in_memory", part.expertBudget > 0
                                       ? std::min(part.expertBudget, part.expertBytes)
                                       : part.expertBytes},
             {"weights", part.use.weights},
             {"kv", part.use.kv},
             {"scratch", part.use.scratch},
             {"free", part.free},
             {"fits", part.fits()},
             {"bytes_per_token", part.tokenBytes},
             {"read_bandwidth_gbs",
              part.readBandwidth > 0 ? Json(part.readBandwidth / 1e9) : Json(nullptr)}});
    return {{"layers", plan.layers},
            {"gpu_layers", plan.gpuLayers},
            {"automatic", plan.automatic},
            {"expert_layers", plan.mixtures},
            {"cpu_experts", plan.cpuExperts},
            {"automatic_experts", plan.automaticExperts},
            {"fits", plan.fits()},
            {"estimated_tps", orNull(plan.tokensPerSecond())},
            {"text", plan.text()},
            {"parts", parts}};
}

namespace {

/// "1–32 of 32, 12 without experts"; "experts of 21–32".
std::string layersText(const PlanPart& part, int32_t layers) {
    std::string text;
    if (part.layers.begin < part.layers.end)
        text = fmt::format("{}–{} of {}", part.layers.begin + 1, part.layers.end, layers);
    if (part.withoutExperts > 0)
        text += fmt::format(", {} without experts", part.withoutExperts);
    if (part.expertLayers > 0)
        text += fmt::format("{}experts of {}–{}", text.empty() ? "" : ", ", part.experts.begin + 1,
                            part.experts.end);
    return text;
}

} // namespace

std::string planTable(const LoadPlan& plan) {
    using enum Table::Align;
    Table table({{"device", Left},
                 {"layers", Left},
                 {"weights", Right},
                 {"KV cache", Right},
                 {"scratch", Right},
                 {"free", Right},
                 {"read a token", Right},
                 {"bandwidth", Right}});
    for (const PlanPart& part : plan.parts)
        table.add({fmt::format("{} ({})", part.device.name, part.device.id),
                   layersText(part, plan.layers), bytesText(part.use.weights),
                   bytesText(part.use.kv), bytesText(part.use.scratch), bytesText(part.free),
                   bytesText(part.tokenBytes),
                   part.readBandwidth > 0 ? fmt::format("{:.0f} GB/s", part.readBandwidth / 1e9)
                                          : "not measured"});
    return table.text() + plan.text() + "\n";
}

void sayPlan(const Model& model, const Recipe& recipe, const EngineOptions& options) {
    const LoadPlan plan = planLoad(model, recipe, options);
    clearProgressLine();
    std::fprintf(stderr, "%s\n", plan.text().c_str());
}

Json describe(const Diagnosis& d) {
    return {{"kind", name(d.kind)},
            {"architecture", d.architecture},
            {"architecture_known", d.architectureKnown},
            {"problem", d.problem.empty() ? Json(nullptr) : Json(d.problem)},
            {"tokenizer", d.tokenizer.empty() ? Json(nullptr) : Json(d.tokenizer)},
            {"pre_tokenizer", d.preTokenizer.empty() ? Json(nullptr) : Json(d.preTokenizer)},
            {"tokenizer_known", d.tokenizerKnown},
            {"chat_template", d.hasTemplate ? "own" : "missing"},
            {"quantization", d.quantization},
            {"unused", d.unused},
            {"decoded", d.decoded},
            {"warnings", d.warnings}};
}

std::string diagnosisText(const Diagnosis& d) {
    std::string out = fmt::format("Architecture: {}{}\n",
                                  d.architecture.empty() ? "not stated" : printable(d.architecture),
                                  d.architectureKnown ? ", known" : ", not known");
    const std::string pre =
        d.preTokenizer.empty() ? "" : fmt::format(", {}", printable(d.preTokenizer));
    out += fmt::format("Tokenizer: {}{}\n",
                       d.tokenizer.empty() ? "none" : printable(d.tokenizer) + pre,
                       d.tokenizer.empty() || d.tokenizerKnown ? "" : ", not fully known");
    out += fmt::format("Chat template: {}\n", d.hasTemplate ? "the model's own" : "missing");
    if (!d.quantization.empty())
        out += fmt::format("Stored as: {}\n", d.quantization);
    if (!d.unused.empty()) {
        constexpr size_t kNamed = 6;
        std::vector<std::string> named;
        for (size_t i = 0; i < d.unused.size() && i < kNamed; ++i)
            named.push_back(printable(d.unused[i]));
        out += fmt::format(
            "Not used: {}{}\n", fmt::join(named, ", "),
            d.unused.size() > kNamed ? fmt::format(" and {} more", d.unused.size() - kNamed) : "");
    }
    for (const std::string& warning : d.warnings)
        out += "Warning: " + warning + "\n";
    return out;
}

} // namespace nibble::cli
