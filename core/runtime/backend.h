#pragma once

#include "core/runtime/options.h"
#include "core/tensor/tensor.h"
#include "core/tokenizer/tokenizer.h"

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// Tokens per KV page. A session's cache is a list of pages; a page index means the same page in
/// every layer and on every backend.
inline constexpr int32_t kPageTokens = 32;

/// Layers that are convolutions keep in each page what they need of its last tokens: position p in
/// slot p mod (taps - 1). A sequence goes on where it ended, or from a page's first token.
inline int32_t stateSlots(const ModelConfig& config) {
    return config.convolutionTaps > 1 ? config.convolutionTaps - 1 : 0;
}

/// One row of a forward call: a token of one sequence at one position.
struct BatchRow {
    TokenId token = 0;
    int32_t position = 0;
    int32_t sequence = 0; ///< index into Batch::sequences
};

/// Rows of one forward call. Rows of a sequence are consecutive and ascending in position; a row
/// attends to positions 0…its own of its sequence, including those earlier in this call.
struct Batch {
    std::vector<BatchRow> rows;
    /// Page lists, one per sequence, long enough for every row's position.
    std::vector<std::vector<int32_t>> sequences;
    /// Rows whose logits are wanted, ascending; may be empty (the head is then not run).
    std::vector<int32_t> logitRows;
    /// The layers of this stage that the call runs: all of them, or a part in a partial pass; none
    /// where it only computes logits.
    LayerRange layers;
    /// Whether the first layer's mixer ran elsewhere before, and the last one's feed-forward part
    /// will run elsewhere.
    bool skipsMixer = false, skipsFeedForward = false;
    /// The stage's call before this one had the same rows, which it need not prepare again.
    bool sameRows = false;
    /// Looked at where a step may take long, because tensors are loaded: Error{Cancelled} when set.
    const std::atomic<bool>* cancel = nullptr;
};

/// Where a tap listens: the input of a matrix product (key = the product's tensor; products that
/// share an input are reported once, for Query and Gate), or the residual stream after a layer.
struct TapSite {
    enum class What : uint8_t { ProductInput, LayerOutput } what{};
    TensorKey key; ///< for LayerOutput only key.layer counts
};

/// The one hook in the forward pass. Called on the calling thread of forward(), in order.
class Tap {
public:
    virtual ~Tap() = default;
    virtual bool wants(const TapSite& site) const = 0;
    /// rows × width float values.
    virtual void values(const TapSite& site, int32_t rows, int32_t width, const float* values) = 0;
};

/// Which code computed a tensor's products, e.g. {"blk.0 q", "vulkan", "int4 × int8 block 32,
/// dot"}.
struct PathReport {
    TensorKey key;
    std::string format, backend, path;
    std::string stored = {}; ///< the base's type in its file, "iq3_s"; the Runner adds it
};

/// What one kind of step took on the device's own clock, in the last call that was timed.
struct StepTime {
    std::string step; ///< "queries, keys and values", "attention", …
    int32_t count = 0;
    double microseconds = 0; ///< of all of them together
};

/// A tensor that is made when it is needed, and again when it was let go of.
struct LazyTensor {
    uint64_t bytes = 0; ///< of its planes
    const Format* format = nullptr;
    std::function<Tensor()> make;
};

/// What a stage holds of a layer: all of it, its mixer with the cache, its feed-forward part, or
/// nothing.
enum class LayerPart : uint8_t { Whole, Mixer, FeedForward, None };

struct StageOptions {
    LayerRange layers;
    std::vector<LayerPart> parts; ///< of each of these layers; empty = all are whole
    bool embeds = true;           ///< holds the token embedding and turns tokens into rows
    bool heads = true;            ///< holds the output norm and head and computes logits
    KvFormat kFormat = KvFormat::F16, vFormat = KvFormat::F16;
    int32_t pages = 0;   ///< KV pages to hold, for all sessions together
    int32_t maxRows = 0; ///< rows of the largest forward call
    /// Bytes of experts to hold at once, of those that are set lazily; 0 = all.
    uint64_t expertBudget = 0;

    LayerPart part(int32_t layer) const {
        return parts.empty() ? LayerPart::Whole : parts[size_t(layer - layers.begin)];
    }
    bool mixes(int32_t layer) const {
        return part(layer) == LayerPart::Whole || part(layer) == LayerPart::Mixer;
    }
    bool feeds(int32_t layer) const {
        return part(layer) == LayerPart::Whole || part(layer) == LayerPart::FeedForward;
    }
    bool mixesAny() const;
};

/// One backend's part of a running model: a range of layers with its weights, KV pages and scratch.
/// Used from one thread. The steps are fused so that a step costs one synchronisation on a GPU; all
/// are mandatory, and forward() in runner.cpp is the only caller:
///
///   if (stage.begin(batch, tap)) { embed | setHidden; per layer: qkv, attention, attentionOutput
///   | convolution, gateUp, down; logits }   stage.end();   readLogits | readHidden
///
/// Of a layer that a stage holds in part, it runs its part's steps.
class Stage {
public:
    virtual ~Stage() = default;

    /// Uploads or replaces one tensor. Norms, biases and RoPE factors are f32. A format without
    /// kernels is converted to f16 and its path says so. Error{OutOfMemory} when it does not fit.
    virtual void setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) = 0;

    /// The same for a tensor that need not be made now. Experts' matrices may be made when a token
    /// chooses them, within the budget for them.
    virtual void setLazily(TensorKey key, const LazyTensor& tensor,
                           const Activations& activations) {
        setTensor(key, tensor.make(), activations);
    }

    /// Copies a page with the states in it (a fork's partly filled last page before it is written).
    virtual void copyPage(int32_t from, int32_t to) = 0;

    /// Starts a call. False when a recording for this shape exists and the steps need not be
    /// issued again (only embed/setHidden's data is refreshed by the stage itself).
    virtual bool begin(const Batch& batch, Tap* tap) = 0;
    /// Rows enter as hidden values [rows][width] instead of tokens. Called before begin().
    virtual void setHidden(std::span<const float> hidden) = 0;
    virtual void embed() = 0;
    virtual void qkv(int32_t layer) = 0; ///< norm, Q K V products (+ biases), RoPE, append to KV
    virtual void attention(int32_t layer) = 0;       ///< softmax(q·K) V per head
    virtual void attentionOutput(int32_t layer) = 0; ///< product (+ bias) + residual
    /// Instead of these three, in layers that are convolutions: norm, product, gated taps over the
    /// row and those before it, product + residual.
    virtual void convolution(int32_t layer) = 0;
    virtual void gateUp(int32_t layer) = 0; ///< norm, two products, SiLU(gate) · up
    virtual void down(int32_t layer) = 0;   ///< product + residual
    virtual void logits() = 0;              ///< norm and head for Batch::logitRows
    /// Executes and waits. Error{DeviceLost} when the device went away.
    virtual void end() = 0;
    virtual void readHidden(std::span<float> out) = 0; ///< [rows][width]
    virtual void readLogits(std::span<float> out) = 0; ///< [logitRows][vocabulary]

    virtual MemoryUse memory() const = 0;
    virtual std::vector<PathReport> paths() const = 0;
    /// How many times an expert was made because a token chose it.
    virtual uint64_t expertLoads() const { return 0; }
    /// Synchronisations per layer of the last call; 0 where the idea does not apply.
    virtual double barriersPerLayer() const { return 0; }
    /// Whether later calls are timed step by step, which slows them a little. No effect where the
    /// device has no clock.
    virtual void setTimed(bool) {}
    virtual std::vector<StepTime> stepTimes() const { return {}; }
};

/// A device as `devices` lists it.
struct DeviceInfo {
    std::string id;           ///< "cpu", "vulkan:0", …
    std::string name;         ///< "AMD Radeon RX 7800 XT", "llvmpipe (LLVM 15.0.6, 256 bits)"
    std::string kind;         ///< "cpu", "discrete", "integrated", "virtual", "software"
    std::string driver;       ///< "RADV, Vulkan 1.3.230", "AVX-512 VNNI"
    uint64_t memoryBytes = 0; ///< its own memory (for a CPU: RAM)
    uint64_t freeBytes = 0;   ///< what may be allocated now; equals memoryBytes where unknown
    bool freeKnown = false;
    std::vector<std::string> features; ///< those the kernels can use: "dot", "fp16", …
};

class Backend {
public:
    virtual ~Backend() = default;
    virtual DeviceInfo info() const = 0;
    virtual std::unique_ptr<Stage> makeStage(const ModelConfig& config,
                                             const StageOptions& options) = 0;
    /// KV and scratch bytes of such a stage before it is made (`weights` is left 0).
    virtual MemoryUse predict(const ModelConfig& config, const StageOptions& options) const;
    /// Whether its stages keep to a budget for experts.
    virtual bool loadsExperts() const { return false; }
};

/// Scalar: the reference for everything else, slow and plain. Simd: chosen at run time.
enum class CpuMode : uint8_t { Scalar, Simd };
std::shared_ptr<Backend> openCpu(CpuMode mode = CpuMode::Simd);

/// "auto" (a real GPU, else cpu), "cpu", "cpu:scalar", "vulkan" (the best Vulkan device),
/// "vulkan:N". Error{Usage} for a device that is not there; the sentence lists what is.
std::shared_ptr<Backend> openDevice(std::string_view spec);
/// Every Vulkan device, then the CPU. Never throws for a missing driver.
std::vector<DeviceInfo> listDevices();

} // namespace nibble
