#include "core/serve/plan.h"

#include "core/base/error.h"
#include "core/quant/apply.h"
#include "core/runtime/memory.h"

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
    return kind == "software" ? 0.15 : kind == "cpu" ? 0.75 : 0.5;
}

int32_t mixturesIn(const ModelConfig& config, LayerRange layers) {
    int32_t count = 0;
    for (int32_t layer = layers.begin; layer < layers.end; ++layer)
        count += config.layer(layer).experts;
    return count;
}

/// The last layers, of which `mixtures` are mixtures, from such a one on.
LayerRange lastMixtures(const ModelConfig& config, int32_t mixtures) {
    LayerRange range{config.layers, config.layers};
    for (int32_t layer = config.layers; layer-- > 0 && mixtures > 0;)
        if (config.layer(layer).experts) {
            range.begin = layer;
            --mixtures;
        }
    return range;
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

    std::vector<MemoryUse> uses(Split split) {
        place(run, model.config, split, device);
        return predictMemory(model, run, [&](TensorKey key) { return bytes.at(key); });
    }
    bool fits(Split split) { return uses(split).front().total() <= usable(deviceFree); }
    /// The most layers that the device holds. More never take less, so that the cut is found by
    /// halving.
    int32_t mostLayers(int32_t cpuExperts) {
        int32_t most = 0, above = model.config.layers + 1;
        while (above - most > 1) {
            const int32_t middle = most + (above - most) / 2;
            (fits({middle, cpuExperts}) ? most : above) = middle;
        }
        return most;
    }
    /// The fewest mixtures without whose experts the device holds so many layers, or all mixtures.
    int32_t fewestExperts(int32_t gpuLayers, int32_t mixtures) {
        int32_t below = -1, fewest = mixtures;
        while (fewest - below > 1) {
            const int32_t middle = below + (fewest - below) / 2;
            (fits({gpuLayers, middle}) ? fewest : below) = middle;
        }
        return fewest;
    }
    /// Weights that a token reads on a stage: all but the embedding, of which it reads a row, and
    /// of experts its share.
    uint64_t tokenBytes(size_t index) const {
        const StageOptions stage = stageOptions(model.config, run, index);
        uint64_t sum = 0;
        for (const auto& [key, size] : bytes) {
            const bool head = key == model.headKey();
            const bool embeds =
                key.role == Role::TokenEmbedding || key.role == Role::PositionEmbedding;
            if (head ? stage.heads : !embeds && stageHolds(model.config, stage, key))
                sum += key.expert < 0 ? size
                                      : size * uint64_t(model.config.expertsUsed) /
                                            uint64_t(model.config.experts);
        }
        return sum;
    }
};

} // namespace

int32_t LoadPlan::expertsApart() const {
    int32_t sum = 0;
    for (const PlanPart& part : parts)
        sum += part.expertLayers;
    return sum;
}

MemoryUse PlanPart::wholeUse() const {
    MemoryUse all = use;
    if (expertBudget > 0)
        all.weights += expertBytes - std::min(expertBytes, expertBudget);
    return all;
}

bool LoadPlan::fits() const {
    return std::ranges::all_of(parts, [](const PlanPart& part) { return part.fits(); });
}

bool LoadPlan::hasMoreThan(const LoadPlan& other) const {
    if (gpuLayers != other.gpuLayers || cpuExperts != other.cpuExperts)
        return gpuLayers > other.gpuLayers ||
               (gpuLayers == other.gpuLayers && cpuExperts < other.cpuExperts);
    return other.expertBudget > 0 && (expertBudget == 0 || expertBudget > other.expertBudget);
}

/// Nothing where experts come from the disk, whose speed is not known.
std::optional<double> LoadPlan::tokensPerSecond() const {
    double seconds = 0;
    for (const PlanPart& part : parts) {
        if (part.readBandwidth <= 0 || part.expertBudget > 0)
            return std::nullopt;
        seconds += double(part.tokenBytes) / (part.readBandwidth * reachedPart(part.device.kind));
    }
    return seconds > 0 ? std::optional(1 / seconds) : std::nullopt;
}

Recipe effectiveRecipe(Recipe recipe, const EngineOptions& options) {
    if (options.kv)
        recipe.kFormat = recipe.vFormat = *options.kv;
    if (options.activations)
        for (RecipeRule& rule : recipe.rules)
            rule.activations = name(*options.activations);
    // Of what no rule speaks of: the first rule is the weakest.
    if (options.activations || options.quickBase) {
        const auto others = options.activations.value_or(ActivationFormat::Int8Block32);
        recipe.rules.insert(
            recipe.rules.begin(),
            RecipeRule{.match = "*", .format = "", .activations = std::string(name(others))});
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

void place(RunOptions& run, const ModelConfig& config, Split split,
           const std::shared_ptr<Backend>& device) {
    const int32_t layers = config.layers;
    const int32_t own = split.gpuLayers < 0 ? layers : std::min(split.gpuLayers, layers);
    const auto cpu = openCpu();
    run.placement.clear();
    if (own > 0)
        run.placement.push_back({{0, own}, device});
    if (own < layers)
        run.placement.push_back({{own, layers}, cpu});
    // Layers that are on the CPU as wholes have their experts there anyway.
    run.expertLayers = {lastMixtures(config, split.cpuExperts).begin, own};
    const bool apart = run.expertLayers.begin < own && device->info().id != cpu->info().id;
    run.expertBackend = apart ? cpu : nullptr;
    if (!apart)
        run.expertLayers = {};
}

namespace {

/// Stages are put together by device, as they share its memory.
void addPart(LoadPlan& plan, Planner& planner, size_t stage, const MemoryUse& use, uint64_t free) {
    const RunOptions& run = planner.run;
    const ModelConfig& config = planner.model.config;
    const DeviceInfo device = stageBackend(run, stage).info();
    auto found = std::ranges::find_if(
        plan.parts, [&](const PlanPart& part) { return part.device.id == device.id; });
    if (found == plan.parts.end()) {
        found = plan.parts.insert(found, PlanPart());
        found->device = device;
        found->free = free;
    }
    if (stage < run.placement.size()) {
        found->layers = run.placement[stage].layers;
        for (int32_t layer = found->layers.begin; layer < found->layers.end; ++layer)
            found->withoutExperts += run.movesExperts(config, layer);
    } else {
        found->experts = run.expertLayers;
        found->expertLayers = mixturesIn(config, run.expertLayers);
    }
    const StageOptions options = stageOptions(config, run, stage);
    for (const auto& [key, bytes] : planner.bytes)
        if (isExpertMatrix(key) && stageHolds(config, options, key))
            found->expertBytes += bytes;
    found->expertBudget += options.expertBudget;
    found->use.weights += use.weights;
    found->use.kv += use.kv;
    found->use.scratch += use.scratch;
    found->tokenBytes += planner.tokenBytes(stage);
}

/// Where the computer's memory does not hold the experts that it runs: how much of them it keeps,
/// at the least the largest one for each stage.
uint64_t findBudget(Planner& planner, Split split, uint64_t free) {
    const std::vector<MemoryUse> uses = planner.uses(split);
    uint64_t total = 0, experts = 0, stages = 0;
    std::map<std::pair<int32_t, int32_t>, uint64_t> each;
    for (size_t i = 0; i < uses.size(); ++i) {
        if (!stageBackend(planner.run, i).loadsExperts())
            continue;
        const StageOptions stage = stageOptions(planner.model.config, planner.run, i);
        ++stages;
        total += uses[i].total();
        for (const auto& [key, bytes] : planner.bytes)
            if (isExpertMatrix(key) && stageHolds(planner.model.config, stage, key)) {
                experts += bytes;
                each[{key.layer, key.expert}] += bytes;
            }
    }
    if (experts == 0 || total <= usable(free))
        return 0;
    uint64_t largest = 0;
    for (const auto& [id, bytes] : each)
        largest = std::max(largest, bytes);
    const uint64_t rest = total - experts;
    return std::max(stages * largest, usable(free) - std::min(usable(free), rest));
}

/// The numbers that are asked for, others as few on the CPU as the device's memory asks for.
Split findSplit(LoadPlan& plan, Planner& planner, const EngineOptions& options) {
    const bool alone = planner.device->info().kind == "cpu"; // its memory is all there is beside it
    plan.automatic = options.gpuLayers < 0 && !alone;
    plan.automaticExperts = options.cpuExperts < 0 && !alone && plan.mixtures > 0;
    Split split{plan.layers, std::min(std::max(options.cpuExperts, 0), plan.mixtures)};
    if (options.gpuLayers >= 0)
        split.gpuLayers = std::min(options.gpuLayers, plan.layers);
    if (plan.automaticExperts)
        split.cpuExperts = planner.fewestExperts(split.gpuLayers, plan.mixtures);
    if (plan.automatic)
        split.gpuLayers = planner.mostLayers(split.cpuExperts);
    return split;
}

} // namespace

LoadPlan planOn(const Model& model, const Recipe& recipe, const EngineOptions& options,
                const std::shared_ptr<Backend>& backend, Releasable releasable) {
    model.requireRunnable();
    const Recipe effective = effectiveRecipe(recipe, options);
    const DeviceInfo info = backend->info();
    const auto freeOf = [&](const DeviceInfo& device) {
        const uint64_t more = device.id == info.id ? releasable.device : releasable.computer;
        return std::min(device.memoryBytes, device.freeBytes + more);
    };
    Planner planner{model, runOptionsFor(effective, options, info), tensorBytes(model, effective),
                    backend, freeOf(info)};
    LoadPlan plan;
    plan.layers = model.config.layers;
    plan.mixtures = mixturesIn(model.config, {0, plan.layers});
    plan.asked = info.id;
    if (options.cpuExperts > 0 && plan.mixtures == 0)
        fail(ErrorKind::Usage,
             "\"{}\" has no experts that could stay on the CPU; leave whole layers to it instead, "
             "with fewer --gpu-layers.",
             printable(model.name));
    const Split split = findSplit(plan, planner, options);
    if (plan.mixtures > 0) {
        plan.expertBudget = findBudget(planner, split, freeOf(openCpu()->info()));
        planner.run.expertBudget = plan.expertBudget;
    }
    if (plan.expertBudget > 0)
        plan.refusal = whyExpertsStay(model, effective);
    const std::vector<MemoryUse> uses = planner.uses(split);
    const RunOptions& run = planner.run;
    for (size_t i = 0; i < uses.size(); ++i)
        addPart(plan, planner, i, uses[i], freeOf(stageBackend(run, i).info()));
    plan.gpuLayers = split.gpuLayers;
    for (int32_t layer = 0; layer < plan.layers; ++layer)
        plan.cpuExperts += model.config.layer(layer).experts &&
                           (layer >= split.gpuLayers || run.movesExperts(model.config, layer));
    return plan;
}

LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options) {
    return planLoad(model, recipe, options, openDevice(options.device));
}

RunOptions plannedRun(const Model& model, const Recipe& recipe, const EngineOptions& options,
                      const std::shared_ptr<Backend>& device, const LoadPlan& plan) {
    if (!plan.refusal.empty())
        throw Error(ErrorKind::OutOfMemory, plan.refusal);
    RunOptions run = runOptionsFor(effectiveRecipe(recipe, options), options, device->info());
    place(run, model.config, plan.split(), device);
    run.expertBudget = plan.expertBudget;
    return run;
}

LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options,
                  const std::shared_ptr<Backend>& device, Releasable releasable) {
    LoadPlan plan = planOn(model, recipe, options, device, releasable);
    for (PlanPart& part : plan.parts) {
        const bool asked = part.device.id == plan.asked;
        part.readBandwidth = knownBandwidth(asked ? *device : *openCpu()).value_or(0);
    }
    return plan;
}

} // namespace nibble
