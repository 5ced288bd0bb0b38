#pragma once

#include "core/evaluate/ladder.h"
#include "core/model/chat_format.h"
#include "core/serve/generate.h"
#include "core/serve/plan.h"
#include "core/serve/resident.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nibble {

/// The options as a runner takes them, on the devices they name, split as planned (plan.h).
/// Error{Usage} for a device that is not there.
RunOptions runOptions(const Model& model, const Recipe& recipe, const EngineOptions& options);
/// A runner with every tensor set to the recipe's, overrides included.
std::unique_ptr<Runner> loadRunner(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                                   const EngineOptions& options, const Progress& progress = {});

/// Memory by purpose on the running device, predicted or used.
struct Ledger {
    MemoryUse use;
    uint64_t other = 0;  ///< what other programs hold (0 where unknown)
    uint64_t budget = 0; ///< the device's memory
    bool fits(uint64_t keepFree = 0) const { return use.total() + other + keepFree <= budget; }
    uint64_t free() const {
        const uint64_t t = use.total() + other;
        return t < budget ? budget - t : 0;
    }
};

struct ChatRequest {
    std::vector<ChatMessage> messages; ///< the whole conversation so far, the system prompt first
    std::string rawPrompt;             ///< used instead of messages when not empty
    std::string templateName;          ///< as chatFormat() takes it; empty = the usual one
    GenerateOptions options;
};

/// The request's tokens as the model wants them: BOS where it adds one, the conversation put
/// through the template. `note` gets a sentence when it had to be put otherwise. Error{BadInput}
/// when the model has no tokenizer, or the template fails or refuses the conversation.
std::vector<TokenId> encodePrompt(const Model& model, const ChatRequest& request,
                                  std::string* note = nullptr);

/// How far a variant's next-token probabilities move from the base's over a conversation.
struct PromptLoss {
    double kld = 0, error = 0; ///< mean over the tokens, and its standard error
    int64_t tokens = 0;
};

/// A base model with its running variant: what the window and the command line both drive. Used
/// from the device thread only; takes and returns plain structs. While measure() runs, more urgent
/// work may use the same engine from Progress::check(); open() and apply() never let any in.
class Engine {
public:
    Engine();
    ~Engine();

    /// Loads base under `recipe`. On failure what ran before keeps running. Where its memory would
    /// let the device hold more layers, it makes room first, and is loaded again on failure.
    void open(std::shared_ptr<const Model> base, const Recipe& recipe, const EngineOptions& options,
              const Progress& progress = {});
    /// Makes another recipe the running variant: only tensors that differ are made and uploaded;
    /// the conversation's tokens are kept and its cache is computed again with the next answer.
    /// With another context or KV format the runner is built anew.
    void apply(const Recipe& recipe, const EngineOptions& options, const Progress& progress = {});
    void close();

    bool isOpen() const;
    std::shared_ptr<const Model> model() const;
    const Recipe& recipe() const;
    const EngineOptions& options() const;
    /// The device that was asked for, or the CPU where it holds no layer.
    DeviceInfo device() const;
    /// What runs where, as planned before it was loaded or applied.
    const LoadPlan& plan() const;

    /// Answers; the conversation's common prefix with the last request is not computed again. After
    /// Error{DeviceLost} the next call (and apply()) opens the device anew.
    GenerateResult
    chat(const ChatRequest& request, const Progress& progress = {},
         const std::function<void(std::string_view text, TokenId token)>& onText = {});

    /// KLD, perplexity and agreement of a recipe (not necessarily the running one) against the
    /// base. Both run beside the running variant, on its device, and are dropped afterwards.
    /// `calibration` is what the recipe is made with, as in EngineOptions.
    QualityReport measure(const Recipe& recipe, const EvaluationText& text,
                          const EvaluateOptions& options,
                          const std::filesystem::path& calibration = {},
                          const Progress& progress = {},
                          const std::function<void(const QualityReport&)>& onPartial = {});

    /// The running variant's loss over the end of a conversation. The base is loaded beside it once
    /// for each conversation; the variant's own cache is computed again with the next answer.
    PromptLoss promptLoss(const ChatRequest& request, const Progress& progress = {});

    /// What the running variant takes of device(). `other` counts what the device holds beyond it.
    Ledger usedMemory() const;
    /// Before loading: what `recipe` would take with `options`.
    static Ledger predictedMemory(const Model& model, const Recipe& recipe,
                                  const EngineOptions& options, const DeviceInfo& device);
    std::vector<PathReport> paths() const;
    /// How many times experts were read from the file because a token chose them.
    uint64_t expertLoads() const;
    int32_t contextUsed() const;

private:
    void load(std::shared_ptr<const Model> base, const Recipe& recipe, const EngineOptions& options,
              const Progress& progress);
    Releasable releasable() const;
    LoadPlan planInstead(const Recipe& recipe, const EngineOptions& options) const;
    void reopen(const Recipe& recipe, const EngineOptions& options, const Progress& progress);
    struct State;
    std::unique_ptr<State> m_state;
};

} // namespace nibble
