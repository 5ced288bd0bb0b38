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
    LayerRange layers;
    MemoryUse use;            ///< predicted
    uint64_t free = 0;        ///< what the device can give
    uint64_t tokenBytes = 0;  ///< weights that one token reads
    double readBandwidth = 0; ///< bytes a second that its memory is read with; 0 = not measured

    bool fits() const { return use.total() <= free; }
};

struct LoadPlan {
    std::vector<PlanPart> parts; ///< one, or the GPU's and the CPU's
    int32_t layers = 0;          ///< of the model
    int32_t gpuLayers = 0;       ///< on the device that was asked for
    bool automatic = false;      ///< gpuLayers was found, not asked for
    std::string asked;           ///< id of the device that was asked for

    bool isSplit() const { return parts.size() > 1; }
    bool fits() const;
    /// Whether layers had to be left to the CPU for want of memory.
    bool isShort() const { return automatic && gpuLayers < layers; }
    /// An estimate from the bytes that a token reads and what devices of each kind reach of their
    /// bandwidth; nothing where one was not measured.
    std::optional<double> tokensPerSecond() const;
    /// The devices in words, as placementText(), and why it is the CPU where no layer fits.
    std::string deviceText() const;
    /// A sentence on what lies where and how fast that may be, and one for each part that does not
    /// fit.
    std::string text() const;
};

/// The plan for `backend`, on which `releasable` bytes will be free that are taken now. Where no
/// number of layers is asked for, the CPU gets those that do not fit.
LoadPlan planOn(const Model& model, const Recipe& recipe, const EngineOptions& options,
                const std::shared_ptr<Backend>& backend, uint64_t releasable = 0);
/// The same for the options' device, with each device's bandwidth: measured once for a device, and
/// kept in the user's cache. Error{Usage} for a device that is not there.
LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options);
LoadPlan planLoad(const Model& model, const Recipe& recipe, const EngineOptions& options,
                  const std::shared_ptr<Backend>& device, uint64_t releasable = 0);

/// The recipe with the options' overrides in it: what really runs.
Recipe effectiveRecipe(Recipe recipe, const EngineOptions& options);
/// The options as a runner takes them, all layers on a device like this; its placement is empty.
RunOptions runOptionsFor(const Recipe& recipe, const EngineOptions& options,
                         const DeviceInfo& device);
/// "NAME (vulkan:0), layers 1–20; NAME (cpu), layers 21–32"; a single device without its layers.
std::string placementText(const std::vector<Placement>& placement);
/// Ranges of layers over one or two devices.
std::vector<Placement> placeLayers(const Model& model, int32_t gpuLayers,
                                   const std::shared_ptr<Backend>& device);

/// Bytes a second at which the device reads its memory, from the user's cache or measured now;
/// nothing where it cannot be measured.
std::optional<double> knownBandwidth(Backend& backend);
/// The same where this process has found it already.
std::optional<double> foundBandwidth(const DeviceInfo& device);

} // namespace nibble
