#pragma once

#include "core/model/model.h"
#include "core/runtime/backend.h"

#include <atomic>
#include <memory>
#include <span>
#include <vector>

namespace nibble {

struct Placement {
    LayerRange layers;
    std::shared_ptr<Backend> backend;
};

struct RunOptions {
    /// Consecutive ranges covering all layers. The first also embeds, the last also computes
    /// logits.
    std::vector<Placement> placement;
    int32_t context = 2048; ///< tokens that one session may hold
    int32_t sessions = 1;   ///< how many full sessions the KV pages must suffice for
    int32_t maxRows = 128;  ///< rows of one forward call; longer prompts run in chunks
    KvFormat kFormat = KvFormat::F16, vFormat = KvFormat::F16;
    /// Of these layers' mixtures the feed-forward parts run on another backend than the rest of the
    /// layer. None where it is null.
    LayerRange expertLayers{};
    std::shared_ptr<Backend> expertBackend = nullptr;
    /// Bytes of experts that the backends which can load them hold at once, together; 0 = all.
    uint64_t expertBudget = 0;

    bool movesExperts(const ModelConfig& config, int32_t layer) const {
        return expertBackend && layer >= expertLayers.begin && layer < expertLayers.end &&
               config.layer(layer).experts;
    }
};

/// All layers on one backend.
std::vector<Placement> placeAll(const Model& model, std::shared_ptr<Backend> backend);

class Runner;

/// One conversation: its length and its KV pages. Move-only; gives its pages back when destroyed
/// (before its Runner). Forks share whole pages.
class Session {
public:
    Session() = default;
    Session(Session&&) noexcept;
    Session& operator=(Session&&) noexcept;
    ~Session();

    int32_t length() const { return m_length; }
    /// Another session with the same past; nothing is copied until one of them writes.
    Session fork() const;
    /// Forgets everything from position `length` on, and where layers keep states up to 31 tokens
    /// before it: length() says what is left.
    void truncate(int32_t length);

private:
    friend class Runner;
    struct Pages;
    std::shared_ptr<Pages> m_pool;
    std::vector<int32_t> m_pages;
    int32_t m_length = 0;
};

/// One row of a forward call.
struct ForwardRow {
    Session* session = nullptr; ///< rows of one session are consecutive and ascending
    TokenId token = 0;
    int32_t position = -1; ///< -1: the session's next. At most one past what the session holds
    bool wantLogits = false;
};

/// What goes in and comes out of forward() beside the rows. layers.end = 0 means all layers.
struct ForwardIo {
    LayerRange layers{};
    std::span<const float> hiddenIn{}; ///< [rows][width] when layers.begin > 0
    std::vector<float>* hiddenOut =
        nullptr; ///< filled when layers.end is not the last layer, or asked
    std::vector<float>* logits = nullptr; ///< [rows with wantLogits][vocabulary]
    Tap* tap = nullptr;
    /// Looked at between the steps of a layer: Error{Cancelled} when set, and the call's rows are
    /// forgotten.
    const std::atomic<bool>* cancel = nullptr;
};

/// A model running on one or more backends. The single forward pass of every architecture lives
/// here. Not thread-safe: one thread owns a Runner, its sessions and its backends.
class Runner {
public:
    /// Allocates KV pages and scratch; tensors are set afterwards. Error{OutOfMemory}.
    Runner(std::shared_ptr<const Model> model, RunOptions options);
    ~Runner();

    /// Uploads or replaces one tensor on the stage(s) that hold it. A tied head follows the
    /// embedding.
    void setTensor(TensorKey key, const Tensor& tensor, const Activations& activations = {});

    /// The same for one that a stage may make later; `make` is called for each stage that holds it.
    void setLazily(TensorKey key, const LazyTensor& tensor, const Activations& activations = {});

    Session newSession();

    /// Runs rows through layers [begin, end): a prompt chunk, continued sessions, speculated tokens
    /// or many windows are the same call. A session's length becomes its last row's position + 1; a
    /// pass over later layers names the positions again. Error{BadInput} when a session is full.
    void forward(std::span<const ForwardRow> rows, const ForwardIo& io);

    /// Appends tokens to a session in chunks; logits of the last token, or of all tokens.
    std::vector<float> append(Session& session, std::span<const TokenId> tokens,
                              bool allLogits = false, Tap* tap = nullptr,
                              const std::atomic<bool>* cancel = nullptr);

    const Model& model() const;
    const RunOptions& options() const;
    MemoryUse memory() const;
    /// The same for each placement, and last for the experts that run apart, where some do.
    std::vector<MemoryUse> stageMemory() const;
    std::vector<PathReport> paths() const;
    /// How many times experts were made because a token chose them.
    uint64_t expertLoads() const;
    double barriersPerLayer() const;
    /// Step times of the last call on each stage's own clock, once timed is set; by stage.
    void setTimed(bool timed);
    std::vector<StepTime> stepTimes() const;

private:
    struct State;
    std::unique_ptr<State> m_state;
};

/// What a runner with these options would take, as Runner::stageMemory() tells it, before anything
/// is loaded; `weightBytes(key)` gives a tensor's plane bytes in the intended format.
std::vector<MemoryUse> predictMemory(const Model& model, const RunOptions& options,
                                     const std::function<uint64_t(TensorKey)>& weightBytes);

} // namespace nibble
