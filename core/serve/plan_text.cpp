#include "core/serve/plan.h"

#include <fmt/format.h>

namespace nibble {

namespace {

std::string sizeText(uint64_t bytes) {
    return bytes < 1'000'000       ? fmt::format("{:.0f}\u00a0kB", double(bytes) * 1e-3)
           : bytes < 1'000'000'000 ? fmt::format("{:.0f}\u00a0MB", double(bytes) * 1e-6)
                                   : fmt::format("{:.2f}\u00a0GB", double(bytes) * 1e-9);
}

/// "layers 21–32 and the experts of layers 9–20", or one of them.
std::string placeText(LayerRange layers, LayerRange experts) {
    std::string text;
    if (layers.begin < layers.end)
        text = fmt::format("layers {}–{}", layers.begin + 1, layers.end);
    if (experts.begin < experts.end)
        text += fmt::format("{}the experts of layers {}–{}", text.empty() ? "" : " and ",
                            experts.begin + 1, experts.end);
    return text;
}

void addPlace(std::string& text, const DeviceInfo& device, LayerRange layers, LayerRange experts,
              bool split) {
    text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", device.name, device.id);
    if (split)
        text += fmt::format(", {}", placeText(layers, experts));
}

/// What a part runs, of so many layers, as a sentence begins.
std::string sharesText(const PlanPart& part, int32_t layers) {
    const int32_t own = part.layers.end - part.layers.begin;
    std::string text = own > 0 ? fmt::format("{} of {} layers", own, layers) : "";
    if (part.withoutExperts > 0)
        text += fmt::format(", {} of them without {} experts,", part.withoutExperts,
                            part.withoutExperts == 1 ? "its" : "their");
    if (part.expertLayers > 0)
        text += fmt::format("{} experts of {} {}", text.empty() ? "The" : " and the",
                            part.expertLayers, part.expertLayers == 1 ? "layer" : "layers");
    return text;
}

} // namespace

std::string LoadPlan::deviceText() const {
    std::string text;
    for (const PlanPart& part : parts)
        addPlace(text, part.device, part.layers, part.experts, isSplit());
    if (automatic && gpuLayers == 0)
        text += fmt::format(", as no layer fits {}", asked);
    return text;
}

std::string placementText(const RunOptions& run) {
    std::string text;
    const std::string apart = run.expertBackend ? run.expertBackend->info().id : "";
    bool named = apart.empty();
    for (const Placement& part : run.placement) {
        const DeviceInfo device = part.backend->info();
        const bool both = device.id == apart;
        addPlace(text, device, part.layers, both ? run.expertLayers : LayerRange{},
                 run.placement.size() > 1 || !apart.empty());
        named = named || both;
    }
    if (!named)
        addPlace(text, run.expertBackend->info(), {}, run.expertLayers, true);
    return text;
}

std::string LoadPlan::text() const {
    std::string text;
    for (const PlanPart& part : parts)
        text +=
            fmt::format("{}{} on {} ({}): {} of weights, {} of KV cache, {} of scratch; {} free",
                        text.empty() ? "" : ". ", sharesText(part, layers), part.device.name,
                        part.device.id, sizeText(part.use.weights), sizeText(part.use.kv),
                        sizeText(part.use.scratch), sizeText(part.free));
    text += ".";
    if (isShort())
        text += fmt::format(" {} cannot hold all {}.", asked,
                            automatic && gpuLayers < layers ? "layers" : "experts");
    for (const PlanPart& part : parts)
        if (part.expertBudget > 0)
            text += fmt::format(" {} keeps {} of its {} of experts in memory, those used last, and "
                                "reads the others from the file when a token needs them: how fast "
                                "that is depends on the disk.",
                                part.device.id, sizeText(part.expertBudget),
                                sizeText(part.expertBytes));
    if (!refusal.empty())
        text += " " + refusal;
    if (const auto speed = tokensPerSecond())
        text += fmt::format(" Estimated from memory bandwidth: {}\u00a0tokens/s.",
                            *speed < 10 ? fmt::format("{:.1f}", *speed)
                                        : fmt::format("{:.0f}", *speed));
    for (const PlanPart& part : parts)
        if (!part.fits())
            text += fmt::format(" {} is {} short: choose a smaller level or context{}.",
                                part.device.id, sizeText(part.use.total() - part.free),
                                part.device.kind == "cpu" ? ""
                                : cpuExperts < mixtures   ? ", or more --cpu-experts"
                                                          : ", or fewer --gpu-layers");
    return text;
}

} // namespace nibble
