#pragma once

#include "core/runtime/cpu/expert_cache.h"

#include <array>
#include <map>
#include <vector>

namespace nibble {

/// The steps of backend.h in one kernel set. Work is shared out over the threads of parallelFor.
class CpuStage : public Stage {
public:
    CpuStage(const ModelConfig& config, const StageOptions& options, const CpuKernels& kernels);
    /// KV and scratch of such a stage, as its memory() will say.
    static MemoryUse predict(const ModelConfig& config, const StageOptions& options);

    void setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) override;
    void setLazily(TensorKey key, const LazyTensor& tensor,
                   const Activations& activations) override;
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
    uint64_t expertLoads() const override { return m_experts.loads(); }

private:
    /// Query rows of one sequence, cut so that a prompt keeps every thread busy.
    struct AttendPart {
        int32_t sequence = 0, firstRow = 0, rows = 0;
    };

    /// One for each matrix that a step multiplies its input with.
    using Inputs = std::array<const ActivationRows*, 3>;

    /// Cosines and sines of the call's rows for one way of rotating.
    struct Turn {
        std::vector<float> frequencies;
        AlignedBuffer<float> cosines, sines;
    };
    /// The matrices and biases of one feed-forward part: a layer's own, an expert's, the shared
    /// expert's.
    struct FeedForward {
        const CpuMatrix *gate = nullptr, *up = nullptr, *down = nullptr;
        const float *gateBias = nullptr, *upBias = nullptr, *downBias = nullptr;
        TensorKey gateKey, downKey; ///< as a tap knows them
        int32_t width = 0;
    };
    struct Chosen {
        int32_t row;
        float weight;
    };

    void allowGathers();
    const CpuMatrix& matrix(Role role, int32_t layer) const;
    const float* vector(Role role, int32_t layer) const;
    const float* vectorOf(TensorKey key) const;
    void norm(const float* x, const float* weight, const float* bias, float* out) const;
    void normRows(std::span<const int32_t> rows, const float* weight, const float* bias);
    Inputs prepare(ActivationRows& input, std::initializer_list<const CpuMatrix*> users);
    void addProduct(ActivationRows& input, const CpuMatrix& weights, const float* bias,
                    const float* postNorm);
    void addToHidden(const float* rows, const float* postNorm);
    void rotate(float* heads, int32_t count, int32_t row, const Turn& turn) const;
    void allowForms(int32_t layer);
    FeedForward feedForward(int32_t layer, int32_t expert);
    FeedForward sharedFeedForward(int32_t layer) const;
    void runInner(const FeedForward& part, ActivationRows& input);
    void route(int32_t layer);
    void addExpert(const FeedForward& part, std::span<const Chosen> rows);
    void runExperts(int32_t layer);
    size_t pageBytes(int32_t layer) const;
    std::byte* pages(int32_t layer) {
        return m_kv.data() + m_layerAt[size_t(layer - m_options.layers.begin)];
    }
    float* state(int32_t layer, int32_t sequence, int32_t position);
    void tap(TapSite::What what, TensorKey key, const ActivationRows& input);
    int32_t rows() const { return static_cast<int32_t>(m_batch->rows.size()); }
    float* hidden(int64_t row) { return m_hidden.data() + row * m_config.width; }

    ModelConfig m_config;
    StageOptions m_options;
    const CpuKernels& m_kernels;
    KvLayout m_layout;
    std::map<TensorKey, CpuMatrix> m_matrices;
    ExpertCache m_experts; ///< of those that are not in m_matrices
    std::map<TensorKey, std::vector<float>> m_vectors;
    /// m_matrices and m_vectors of a layer by role, so that a step does not search.
    std::vector<std::array<const CpuMatrix*, kRoleCount>> m_layerMatrices;
    std::vector<std::array<const float*, kRoleCount>> m_layerVectors;

    std::array<Turn, 2> m_turns; ///< of ModelConfig::rope and localRope
    /// Where the pages of a layer begin: keys and values, or states [page][slot][width].
    std::vector<size_t> m_layerAt;
    AlignedBuffer<std::byte> m_kv;
    AlignedBuffer<float> m_hidden, m_query, m_key, m_value, m_product, m_added, m_gates;
    ActivationRows m_input, m_inner, m_routed;
    std::vector<std::vector<Chosen>> m_chosen; ///< by expert, of the layer that runs
    std::array<ActivationRows, 3> m_gathered;
    const ActivationRows* m_headInput = nullptr; ///< of logits(), for readLogits()

    const Batch* m_batch = nullptr;
    Tap* m_tap = nullptr;
    std::vector<int32_t> m_positions, m_allRows;
    std::vector<AttendPart> m_parts;
    std::vector<float> m_tapped;
};

} // namespace nibble
