#pragma once

#include "core/runtime/vulkan/kv_cache.h"
#include "core/runtime/vulkan/tiling.h"

#include <array>
#include <optional>

namespace nibble {

/// Blocks of 32 values in an activation row.
inline int32_t blocksOf(int32_t cols) {
    return (cols + BLOCK - 1) / BLOCK;
}

/// Rows that a call of so many is recorded for: 1, 2, 4, 8, 16 or a multiple of 16.
int32_t padRows(int32_t rows);

/// What a Vulkan backend shares with its stages.
struct VulkanContext {
    explicit VulkanContext(std::shared_ptr<VulkanDevice> device);
    Uploader uploader;
    VulkanPaths paths;
    KernelTiling tiling;
    bool measured = false; ///< both were chosen by a probe of the device
};

/// The steps of backend.h as dispatches. A call is recorded once for its shape (rows padded by
/// padRows(), and what it runs of which layers) and replayed; what changes
/// lies in the step buffer.
class VulkanStage : public Stage {
public:
    VulkanStage(const ModelConfig& config, const StageOptions& options,
                std::shared_ptr<VulkanContext> context);
    static MemoryUse predict(const ModelConfig& config, const StageOptions& options);

    void setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) override;
    void copyPage(int32_t from, int32_t to) override;
    bool begin(const Batch& batch, Tap* tap) override;
    void setHidden(std::span<const float> hidden) override;
    void embed() override;
    void qkv(int32_t layer) override;
    void attention(int32_t layer) override;
    void attentionOutput(int32_t layer) override;
    void convolution(int32_t layer) override;
    void gateUp(int32_t layer) override;
    void down(int32_t layer) override;
    void logits() override;
    void end() override;
    void readHidden(std::span<float> out) override;
    void readLogits(std::span<float> out) override;
    MemoryUse memory() const override;
    std::vector<PathReport> paths() const override;
    double barriersPerLayer() const override { return m_barriersPerLayer; }
    void setTimed(bool timed) override;
    std::vector<StepTime> stepTimes() const override { return m_times; }

private:
    using Forms = std::vector<const DeviceForm*>; ///< each once
    /// Rows prepared for products: codes or floats, and the numbers of each block, behind which
    /// outliers may be listed.
    struct Input {
        Allocation words, info;
    };
    /// Forms of a step that want buffers of the same kind are told apart by their ordinal.
    struct InputKey {
        int slot;
        ActivationFormat format;
        bool listsOutliers;
        int ordinal;
        auto operator<=>(const InputKey&) const = default;
    };
    struct Tapped {
        TapSite site;
        int32_t rows, width, stride;
        Allocation values;
        /// Of experts: what each slot chose, a copy of m_routes, and whether the values are a row
        /// of the call each, or one of a slot.
        Allocation routes = {};
        bool bySlot = false;
    };
    struct Shape {
        int32_t rows, logitRows, firstLayer, lastLayer;
        bool hidden, skipsMixer, skipsFeedForward;
        auto operator<=>(const Shape&) const = default;
    };
    struct Recorded {
        std::unique_ptr<Recording> recording;
        double barriersPerLayer = 0;
        std::vector<const char*> steps; ///< that its stamps end, where calls are timed
    };
    struct Preparation {
        uint32_t kind = PREPARE_PLAIN;
        BufferView source{}, second{}, norm{};
        int32_t width = 0, stride = 0;
        bool logitRows = false;
        BufferView normBias{};
    };
    /// A matrix product of rows prepared in `slot`, and what becomes of it.
    struct Product {
        Role role;
        int32_t layer;
        int slot;
        int32_t rows;
        uint32_t epilogue = EPILOGUE_STORE;
        BufferView out{};
        int32_t outStride = 0;
        BufferView bias{}, cache{};
        uint32_t cacheFormat = KV_F16;
        uint32_t ropeAt = 0;               ///< of the step buffer; 0 = nothing rotates
        const Preparation* tail = nullptr; ///< prepared by the last workgroup, into kNormed
        const DeviceForm* tailForm = nullptr;
    };
    static constexpr int kNormed = 0, kInner = 1, kShared = 2;
    /// The same matrix of every expert of a layer, behind each other in as few buffers as the
    /// device can bind. All have one format.
    struct Experts {
        DeviceMatrix shape; ///< of one; no parts
        struct Part {
            Allocation memory;
            uint32_t first = 0, count = 0;
        };
        std::vector<Part> parts;
        kernels::Planes planes{};
        uint64_t words = 0; ///< of one expert
        std::vector<bool> given;
        bool complete() const;
    };

    const DeviceMatrix& matrix(Role role, int32_t layer) const;
    BufferView vector(Role role, int32_t layer) const;
    Forms formsOf(std::span<const Role> roles, int32_t layer) const;
    Forms formsOf(std::initializer_list<Role> roles, int32_t layer) const {
        return formsOf(std::span(roles.begin(), roles.size()), layer);
    }
    std::shared_ptr<const DeviceForm> deviceForm(const InputForm& form, int64_t cols) const;
    Input& input(const InputKey& key);
    /// The buffers of a form that is among those prepared in a slot.
    Input& input(int slot, const DeviceForm& form);
    void writeStep(const Batch& batch);
    Recording& recording() { return *m_current->recording; }
    /// Ends a step: everything before it is finished and visible to everything after.
    void endStep(const char* step);
    /// Ends a layer, or what the stage holds of it.
    void endLayer(int32_t layer);
    void addTimes();
    void prepare(const Preparation& what, const Forms& forms, int slot, int32_t rows,
                 std::optional<TapSite> site);
    kernels::PrepareArguments prepareArguments(const Preparation& what) const;
    /// Adds the tail that does `what` to a dispatch; the workgroup count is the dispatch's own.
    void addTail(Dispatch& dispatch, kernels::PrepareArguments& arguments, const Preparation& what,
                 const DeviceForm& form, int slot);
    bool canTail(const Forms& forms) const;
    Preparation normOf(Role role, int32_t layer) const;
    Preparation gateOf(BufferView gate, BufferView up, int32_t width) const;
    kernels::ProductArguments productArguments(const DeviceMatrix::Part& part,
                                               const Product& what) const;
    void product(const Product& what);
    void setExpert(TensorKey key, const Tensor& tensor, const Activations& activations);
    const Experts& experts(Role role, int32_t layer) const;
    void expertProduct(const Experts& experts, const Product& what, uint32_t inputs);
    void route(int32_t layer);
    void gateUpOfExperts(int32_t layer);
    void downOfExperts(int32_t layer);
    bool wantsExperts(TapSite site) const;
    void reportTapped(const Tapped& tapped);
    /// Queries or keys that are normed before they rotate, from rows of floats.
    void finishHeads(Role role, int32_t layer, const Allocation& from, const Product& to);
    void addToHidden(Role postNorm, int32_t layer, bool ofExperts);
    uint32_t ropeAt(int32_t layer) const;
    uint32_t listsAt() const;
    uint32_t ropeWords() const; ///< of a row, in the step buffer

    int32_t slots(int32_t rows) const;
    /// The product of keys or values, into the cache or, where it keeps codes, into `rows`.
    void keyOrValue(Role role, int32_t layer, const DeviceKvCache& cache, const Allocation& rows);
    void outputProduct(Role role, Role bias, int32_t layer);
    void storeCodes(int32_t layer, const DeviceKvCache& cache, const Allocation& rows);
    std::vector<int64_t> rotatedOrder(TensorKey key, int64_t rows) const;

    ModelConfig m_config;
    StageOptions m_options;
    std::shared_ptr<VulkanContext> m_context;
    std::map<TensorKey, DeviceMatrix> m_matrices;
    std::map<TensorKey, Experts> m_experts; ///< by role and layer
    std::map<TensorKey, Allocation> m_vectors;
    /// Biases of experts, which lie behind each other in m_vectors.
    std::map<TensorKey, std::vector<float>> m_expertBiases;
    std::array<std::vector<float>, 2> m_frequencies; ///< of ModelConfig::rope and localRope
    int32_t m_maxRows = 0;
    Allocation m_hidden, m_query, m_attended, m_gate, m_up, m_logits, m_counter, m_unused;
    Allocation m_key, m_value;       ///< rows of floats, where the cache keeps codes
    Allocation m_rawQuery, m_rawKey; ///< before heads are normed
    Allocation m_added;              ///< what a part adds, where that is normed or of experts
    Allocation m_routes, m_sharedGate, m_sharedUp, m_sharedAdded;
    Allocation m_step, m_hiddenHost, m_logitsHost;
    std::map<InputKey, Input> m_inputs;
    std::array<Forms, 3> m_prepared; ///< by slot, while recording
    DeviceKvCache m_keys, m_values;
    std::vector<Allocation> m_states; ///< of layers that are convolutions: [page][slot][width]
    Allocation m_gates;               ///< b, c and x of their rows

    std::map<Shape, Recorded> m_recorded;
    Recorded m_once; ///< being recorded, or of a tapped call
    Recorded* m_current = nullptr;
    Shape m_shape{};
    int32_t m_rows = 0, m_logitRows = 0; ///< of the call, not padded
    int32_t m_tokens = 0;                ///< the most that one of its rows attends to
    Tap* m_tap = nullptr;
    std::vector<Tapped> m_tapped;
    bool m_hiddenGiven = false, m_recording = false, m_ready = false, m_timed = false,
         m_tapsRoutes = false;
    double m_barriersPerLayer = 0;
    std::vector<StepTime> m_times; ///< of the call, where calls are timed
};

} // namespace nibble
