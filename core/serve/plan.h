#pragma once

#include "core/quant/recipe.h"
#include "core/runtime/runner.h"
#include "core/serve/engine_options.h"

#include <optional>
#include <string>
#include <vector>

/// Which device runs which layers, worked out before anything is loaded.
namespace nibble {

/// One device's part of a model.
struct PlanPart {
    DeviceInfo device;
    LayerRange layers;          ///< that it runs, the experts of mixtures aside; may be none
    LayerRange experts{};       ///< layers among which are those of which it has the experts alone
    int32_t expertLayers = 0;   ///< how many they are
    int32_t withoutExperts = 0; ///< of `layers`, those whose experts are elsewhere
    MemoryUse use;              ///< predicted
    uint64_t free = 0;          ///< what the device can give
    uint64_t tokenBytes = 0;    ///< weights that one token reads
    uint64_t expertBytes = 0;   ///< of the experts that it runs
    uint64_t expertBudget = 0;  ///< of these in memory at a time, the others in the file; 0 = all
    double readBandwidth = 0;   ///< bytes a second that its memory is read with; 0 = not measured

    bool fits() const { return use.total() <= free; }
    /// What it would take with all of its experts in memory.
    MemoryUse wholeUse() const;
};

/// How a model is shared out between a device and the CPU.
struct Split {
    int32_t gpuLayers = -1; ///< the first so many on the device; -1 = all
    int32_t cpuExperts = 0; ///< of the last so many mixtures the experts on the CPU
    friend bool operator==(const Split&, const Split&) = default;
};

struct LoadPlan {
    std::vector<PlanPart> parts; ///< one, or the GPU's and the CPU's
    int32_t layers = 0;          ///< of the model
    int32_t mixtures = 0;        ///< of these, those with experts
    int32_t gpuLayers = 0;       ///< on the device that was asked for
    int32_t cpuExperts = 0;      ///< mixtures whose experts are not there, but on the CPU
    bool automatic = false;      ///< gpuLayers was found, not asked for
    bool automaticExperts = false;
    uint64_t expertBudget = 0; ///< RunOptions::expertBudget
    std::string refusal;       ///< why it cannot be run so: a sentence, or empty
    std::string asked;         ///< id of the device that was asked for

    Split split() const { return {gpuLayers, cpuExperts}; }
    bool isSplit() const { return parts.size() > 1; }
    bool fits() const;
    /// Whether layers or experts had to be left to the CPU for want of memory.
    bool isShort() const {
        return (automatic && gpuLayers < layers) || (automaticExperts && expertsApart() > 0);
    }
    /// Whether the device that was asked for has more of the model than in another plan for it.
    /// The same with more of the experts in memory counts, too.
    bool hasMoreThan(const LoadPlan& other) const;
    /// Layers of which the CPU has the experts alone.
    int32_t expertsApart() const;
    /// An estimate from the bytes that a token reads and what devices of each kind reach of their
    /// bandwidth; nothing where one was not measured.
    std::optional<double> tokensPerSecond() const;
    /// The devices in words, as placementText(), and why it is the CPU where no layer fits.
    std::string deviceText() const;
    /// A sentence on what lies where and how fast that may be, and one for each part that does not
    /// fit.
    std::string text() const;
};

/// Bytes that are taken now and will be free: of the device that is asked for, and of the
/// computer's memory beside it.
struct Releasable {
    Releasable(uint64_t ofDevice = 0, uint64_t ofComputer = 0)
        : device(ofDevice), computer(ofComputer) {}
    uint64_t device, computer;
};

/// The plan for `backend`, on which `releasable` bytes will be free that are taken now. Where no
/// numbers are asked for, the CPU gets what does not fit: of mixtures first the experts, of as few
/// layers as need be, which are read sparsely; then whole layers. Of experts that the computer's
/// memory does not hold either, as many bytes as fit are kept in it at a time. Error{Usage} where
/// experts of a model are asked for that has none.
LoadPlan planOn(const Model& model, const Recipe& recipe, const EngineOptions& options,
                const std::shared_ptr<Backend>& backend, Releasable releasable = {});
/// The same for the options' device, with each device's bandwidth: measured once for a device, and
/// kept in the user's cache. Error{Usage} for a device that is not there.
LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options);
LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options,
                  const std::shared_ptr<Backend>& device, Releasable releasable = {});

/// The recipe with the options' overrides in it: what really runs.
Recipe effectiveRecipe(Recipe recipe, const EngineOptions& options);
/// The options as a runner takes them on a device like this; its placement is empty.
RunOptions runOptionsFor(const Recipe& recipe, const EngineOptions& options,
                         const DeviceInfo& device);
/// "NAME (vulkan:0), layers 1–20; NAME (cpu), layers 21–32 and the experts of layers 9–20"; a
/// single device without its layers.
std::string placementText(const RunOptions& run);
/// The options as a runner takes them, with the model on the devices as planned. Error{OutOfMemory}
/// for a plan that cannot be run.
RunOptions plannedRun(const Model& model, const Recipe& recipe, const EngineOptions& options,
                      const std::shared_ptr<Backend>& device, const LoadPlan& plan);
/// Shares the model out over one or two devices.
void place(RunOptions& run, const ModelConfig& config, Split split,
           const std::shared_ptr<Backend>& device);

/// Bytes a second at which the device reads its memory, from the user's cache or measured now;
/// nothing where it cannot be measured.
std::optional<double> knownBandwidth(Backend& backend);
/// What a longer look found, for the next plans.
void keepBandwidth(const DeviceInfo& device, double bandwidth);
/// The same where this process has found it already.
std::optional<double> foundBandwidth(const DeviceInfo& device);

} // namespace nibble
