#include "core/serve/plan.h"

#include "core/base/error.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace nibble {

namespace {

/// Of what is free a part stays so: for the driver's own needs, for programs that start later, and
/// for the unused ends of slabs, of which the smallest has 1 MiB.
uint64_t usable(uint64_t free) {
    constexpr uint64_t kMostKept = uint64_t(1) << 30, kSlabs = uint64_t(4) << 20;
    return free - std::min(free, std::min(free / 20, kMostKept) + kSlabs);
}

/// What generating a token is taken to reach of the bandwidth of a device of this kind: round
/// numbers, as the plan says that it is an estimate.
double reachedPart(const std::string& kind) {
    return kind == "software" ? 0.15 : kind == "cpu" ? 0.6 : 0.5;
}

std::string sizeText(uint64_t bytes) {
    return bytes < 1'000'000       ? fmt::format("{:.0f}\u00a0kB", double(bytes) * 1e-3)
           : bytes < 1'000'000'000 ? fmt::format("{:.0f}\u00a0MB", double(bytes) * 1e-6)
                                   : fmt::format("{:.2f}\u00a0GB", double(bytes) * 1e-9);
}

void addPlace(std::string& text, const DeviceInfo& device, LayerRange layers, bool split) {
    text += fmt::format("{}{} ({})", text.empty() ? "" : "; ", device.name, device.id);
    if (split)
        text += fmt::format(", layers {}–{}", layers.begin + 1, layers.end);
}

/// Bytes of each tensor under the recipe, counted once for all cuts that are tried.
std::map<TensorKey, uint64_t> tensorBytes(const Model& model, const Recipe& recipe) {
    std::map<TensorKey, uint64_t> bytes;
    for (const TensorKey key : model.keys())
        bytes[key] = recipeBytes(model, recipe, key);
    return bytes;
}

struct Planner {
    const Model& model;
    RunOptions run;
    std::map<TensorKey, uint64_t> bytes;
    std::shared_ptr<Backend> device;
    uint64_t deviceFree = 0;

    std::vector<MemoryUse> uses(int32_t gpuLayers) {
        run.placement = placeLayers(model, gpuLayers, device);
        return predictMemory(model, run, [&](TensorKey key) { return bytes.at(key); });
    }
    /// The most layers that the device holds. More never take less, so that the cut is found by
    /// halving.
    int32_t mostLayers() {
        int32_t fits = 0, above = model.config.layers + 1;
        while (above - fits > 1) {
            const int32_t middle = fits + (above - fits) / 2;
            if (uses(middle).front().total() <= usable(deviceFree))
                fits = middle;
            else
                above = middle;
        }
        return fits;
    }
    /// Weights that a token reads in layers: all but the embedding, of which it reads a row, and of
    /// experts its share.
    uint64_t tokenBytes(LayerRange layers) const {
        uint64_t sum = 0;
        for (const auto& [key, size] : bytes) {
            const bool head = key == model.headKey() || key.role == Role::OutputNorm;
            if (head ? layers.end == model.config.layers
                     : key.layer >= layers.begin && key.layer < layers.end)
                sum += key.expert < 0 ? size
                                      : size * uint64_t(model.config.expertsUsed) /
                                            uint64_t(model.config.experts);
        }
        return sum;
    }
};

} // namespace

bool LoadPlan::fits() const {
    return std::ranges::all_of(parts, [](const PlanPart& part) { return part.fits(); });
}

std::optional<double> LoadPlan::tokensPerSecond() const {
    double seconds = 0;
    for (const PlanPart& part : parts) {
        if (part.readBandwidth <= 0)
            return std::nullopt;
        seconds += double(part.tokenBytes) / (part.readBandwidth * reachedPart(part.device.kind));
    }
    return seconds > 0 ? std::optional(1 / seconds) : std::nullopt;
}

std::string LoadPlan::deviceText() const {
    std::string text;
    for (const PlanPart& part : parts)
        addPlace(text, part.device, part.layers, isSplit());
    if (parts.size() == 1 && isShort())
        text += fmt::format(", as no layer fits {}", asked);
    return text;
}

std::string placementText(const std::vector<Placement>& placement) {
    std::string text;
    for (const Placement& part : placement)
        addPlace(text, part.backend->info(), part.layers, placement.size() > 1);
    return text;
}

std::string LoadPlan::text() const {
    std::string text;
    for (const PlanPart& part : parts)
        text += fmt::format(
            "{}{} of {} layers on {} ({}): {} of weights, {} of KV cache, {} of scratch; {} free",
            text.empty() ? "" : ". ", part.layers.end - part.layers.begin, layers, part.device.name,
            part.device.id, sizeText(part.use.weights), sizeText(part.use.kv),
            sizeText(part.use.scratch), sizeText(part.free));
    text += ".";
    if (isShort())
        text += fmt::format(" {} cannot hold all layers.", asked);
    if (const auto speed = tokensPerSecond())
        text += fmt::format(" Estimated from memory bandwidth: {}\u00a0tokens/s.",
                            *speed < 10 ? fmt::format("{:.1f}", *speed)
                                        : fmt::format("{:.0f}", *speed));
    for (const PlanPart& part : parts)
        if (!part.fits())
            text += fmt::format(" {} is {} short: choose a smaller level or context{}.",
                                part.device.id, sizeText(part.use.total() - part.free),
                                part.device.kind == "cpu" ? "" : ", or fewer --gpu-layers");
    return text;
}

Recipe effectiveRecipe(Recipe recipe, const EngineOptions& options) {
    if (options.kv)
        recipe.kFormat = recipe.vFormat = *options.kv;
    if (options.activations) {
        for (RecipeRule& rule : recipe.rules)
            rule.activations = name(*options.activations);
        RecipeRule all{
            .match = "*", .format = "", .activations = std::string(name(*options.activations))};
        recipe.rules.insert(recipe.rules.begin(), std::move(all));
    }
    return recipe;
}

/// A prompt is read in longer pieces where there is a card to fill: 256 rows read a prompt of 512
/// twice as fast as 128 on an H100. Other devices may not answer in time for their driver.
RunOptions runOptionsFor(const Recipe& recipe, const EngineOptions& options,
                         const DeviceInfo& device) {
    if (options.context < 1)
        fail(ErrorKind::Usage, "A context of {} tokens is not possible; use 1 or more.",
             options.context);
    RunOptions run;
    run.context = options.context;
    if (device.kind == "discrete")
        run.maxRows *= 2;
    run.maxRows = std::min(run.maxRows, options.context);
    run.kFormat = recipe.kFormat;
    run.vFormat = recipe.vFormat;
    return run;
}

std::vector<Placement> placeLayers(const Model& model, int32_t gpuLayers,
                                   const std::shared_ptr<Backend>& device) {
    const int32_t layers = model.config.layers;
    if (gpuLayers < 0 || gpuLayers >= layers)
        return {{{0, layers}, device}};
    const auto cpu = openCpu();
    if (gpuLayers == 0)
        return {{{0, layers}, cpu}};
    return {{{0, gpuLayers}, device}, {{gpuLayers, layers}, cpu}};
}

LoadPlan planOn(const Model& model, const Recipe& recipe, const EngineOptions& options,
                const std::shared_ptr<Backend>& backend, uint64_t releasable) {
    model.requireRunnable();
    const Recipe effective = effectiveRecipe(recipe, options);
    const DeviceInfo info = backend->info();
    const auto freeOf = [&](const DeviceInfo& device) {
        const uint64_t more = device.id == info.id ? releasable : 0;
        return std::min(device.memoryBytes, device.freeBytes + more);
    };
    Planner planner{model, runOptionsFor(effective, options, info), tensorBytes(model, effective),
                    backend, freeOf(info)};
    LoadPlan plan;
    plan.layers = model.config.layers;
    plan.asked = info.id;
    // The processor's own memory is all there is beside it.
    plan.automatic = options.gpuLayers < 0 && info.kind != "cpu";
    plan.gpuLayers = plan.automatic          ? planner.mostLayers()
                     : options.gpuLayers < 0 ? plan.layers
                                             : std::min(options.gpuLayers, plan.layers);
    const std::vector<MemoryUse> uses = planner.uses(plan.gpuLayers);
    for (size_t i = 0; i < uses.size(); ++i) {
        const Placement& placed = planner.run.placement[i];
        PlanPart part;
        part.device = placed.backend->info();
        part.layers = placed.layers;
        part.use = uses[i];
        part.free = freeOf(part.device);
        part.tokenBytes = planner.tokenBytes(placed.layers);
        plan.parts.push_back(std::move(part));
    }
    return plan;
}

LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options) {
    return planLoad(model, recipe, options, openDevice(options.device));
}

LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options,
                  const std::shared_ptr<Backend>& device, uint64_t releasable) {
    LoadPlan plan = planOn(model, recipe, options, device, releasable);
    for (PlanPart& part : plan.parts) {
        const bool asked = part.device.id == plan.asked;
        part.readBandwidth = knownBandwidth(asked ? *device : *openCpu()).value_or(0);
    }
    return plan;
}

} // namespace nibble
