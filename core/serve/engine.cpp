#include "core/serve/engine.h"

#include "core/calibrate/calibrate.h"
#include "core/evaluate/measured.h"
#include "core/evaluate/score.h"
#include "core/quant/apply.h"
#include "core/runtime/memory.h"

#include <algorithm>
#include <fmt/format.h>

namespace nibble {

namespace {

/// The caller's progress without the door for more urgent work: nothing else may use the engine
/// while its runner is a mixture of two variants.
Progress undisturbed(const Progress& progress) {
    Progress closed = progress;
    closed.onCheck = nullptr;
    return closed;
}

/// Whether a runner made for one can go on under the other by replacing tensors alone.
bool sameRunner(const Recipe& a, const EngineOptions& x, const Recipe& b, const EngineOptions& y) {
    return a.kFormat == b.kFormat && a.vFormat == b.vFormat && x.device == y.device &&
           x.context == y.context && x.gpuLayers == y.gpuLayers && x.cpuExperts == y.cpuExperts;
}

} // namespace

namespace {

struct Loaded {
    LoadPlan plan;
    std::unique_ptr<Runner> runner;
};

/// As planned; a device that then gives less than it said is an error, not another device.
Loaded loadPlanned(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                   const EngineOptions& options, const std::shared_ptr<Backend>& device,
                   const Progress& progress) {
    const Recipe effective = effectiveRecipe(recipe, options);
    Loaded loaded{planOn(*model, recipe, options, device), nullptr};
    loaded.runner =
        std::make_unique<Runner>(model, plannedRun(*model, recipe, options, device, loaded.plan));
    applyRecipe(*loaded.runner, effective, nullptr, progress,
                calibrationFor(model, effective, progress, options.calibration));
    return loaded;
}

} // namespace

RunOptions runOptions(const Model& model, const Recipe& recipe, const EngineOptions& options) {
    const auto device = openDevice(options.device);
    return plannedRun(model, recipe, options, device, planOn(model, recipe, options, device));
}

std::unique_ptr<Runner> loadRunner(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                                   const EngineOptions& options, const Progress& progress) {
    model->requireRunnable();
    return loadPlanned(model, recipe, options, openDevice(options.device), progress).runner;
}

struct Engine::State {
    std::shared_ptr<const Model> model;
    Recipe recipe;    ///< as asked for
    Recipe effective; ///< what the runner has
    EngineOptions options;
    LoadPlan plan; ///< of the runner
    std::unique_ptr<Runner> runner;
    Conversation conversation;         ///< after the runner: a session dies before its runner
    std::vector<TokenId> promptTokens; ///< that `promptBase` belongs to
    std::vector<float> promptBase;     ///< the base's logits after each of them
    bool deviceLost = false;           ///< the runner's device went away: it can only be made anew

    Runner& running() const {
        if (!runner)
            fail(ErrorKind::Usage, "No model is open; open one first.");
        return *runner;
    }
};

Engine::Engine() : m_state(std::make_unique<State>()) {}
Engine::~Engine() = default;

void Engine::load(std::shared_ptr<const Model> base, const Recipe& recipe,
                  const EngineOptions& options, const Progress& progress) {
    Loaded loaded =
        loadPlanned(base, recipe, options, openDevice(options.device), undisturbed(progress));

    State& state = *m_state;
    state.conversation = {};
    state.runner = std::move(loaded.runner);
    state.plan = std::move(loaded.plan);
    state.model = std::move(base);
    state.recipe = recipe;
    state.effective = effectiveRecipe(recipe, options);
    state.options = options;
    state.promptTokens.clear();
    state.promptBase.clear();
    state.deviceLost = false;
    state.conversation.session = state.runner->newSession();
}

void Engine::open(std::shared_ptr<const Model> base, const Recipe& recipe,
                  const EngineOptions& options, const Progress& progress) {
    base->requireRunnable();
    State& state = *m_state;
    bool makeRoom = false;
    if (state.runner && !state.deviceLost) {
        const auto device = openDevice(options.device);
        const LoadPlan beside = planOn(*base, recipe, options, device);
        const bool same = beside.asked == this->device().id;
        makeRoom = (beside.isShort() || beside.expertBudget > 0) && same &&
                   planOn(*base, recipe, options, device, releasable()).hasMoreThan(beside);
    }
    if (!makeRoom)
        return load(std::move(base), recipe, options, progress);

    const auto oldModel = state.model;
    const Recipe oldRecipe = state.recipe;
    const EngineOptions oldOptions = state.options;
    const std::vector<TokenId> tokens = state.conversation.tokens;
    state.conversation = {};
    state.runner.reset();
    try {
        load(std::move(base), recipe, options, progress);
    } catch (...) {
        load(oldModel, oldRecipe, oldOptions, {});
        state.conversation.tokens = tokens;
        throw;
    }
}

/// The same conversation on a new runner: its tokens are kept, its cache starts empty and is
/// computed again.
void Engine::reopen(const Recipe& recipe, const EngineOptions& options, const Progress& progress) {
    std::vector<TokenId> tokens = m_state->conversation.tokens;
    open(m_state->model, recipe, options, progress);
    m_state->conversation.tokens = std::move(tokens);
}

/// The plan for a recipe in the running one's place.
LoadPlan Engine::planInstead(const Recipe& recipe, const EngineOptions& options) const {
    const State& state = *m_state;
    const auto& first = state.runner->options().placement.front().backend;
    const bool onDevice = first->info().id == state.plan.asked;
    return planOn(*state.model, recipe, options, onDevice ? first : openDevice(options.device),
                  onDevice ? releasable() : Releasable());
}

/// What the runner takes.
Releasable Engine::releasable() const {
    const RunOptions& run = m_state->running().options();
    const std::vector<MemoryUse> uses = m_state->runner->stageMemory();
    Releasable sum{uses.front().total()};
    const std::string first = stageBackend(run, 0).info().id;
    for (size_t i = 1; i < uses.size(); ++i)
        (stageBackend(run, i).info().id == first ? sum.device : sum.computer) += uses[i].total();
    return sum;
}

void Engine::apply(const Recipe& recipe, const EngineOptions& options, const Progress& progress) {
    State& state = *m_state;
    Runner& runner = state.running();
    const Recipe effective = effectiveRecipe(recipe, options);
    if (state.deviceLost || !sameRunner(state.effective, state.options, effective, options))
        return reopen(recipe, options, progress);
    // A larger or smaller recipe may leave other layers or experts to the CPU.
    LoadPlan plan = planInstead(recipe, options);
    if (plan.split() != state.plan.split() || plan.expertBudget > 0 || state.plan.expertBudget > 0)
        return reopen(recipe, options, progress);
    // What differs between the two recipes is what may have been replaced; with another calibration
    // also what is made by the same rules.
    const bool anew = options.calibration != state.options.calibration &&
                      neededCalibration(*state.model, effective) != Needs::Nothing;
    const auto putBack = [&] {
        applyRecipe(runner, state.effective, anew ? nullptr : &effective, {},
                    calibrationFor(state.model, state.effective, {}, state.options.calibration));
    };
    const auto calibration =
        calibrationFor(state.model, effective, undisturbed(progress), options.calibration);
    try {
        applyRecipe(runner, effective, anew ? nullptr : &state.effective, undisturbed(progress),
                    calibration);
    } catch (const Error& error) {
        state.deviceLost = error.kind() == ErrorKind::DeviceLost;
        if (!state.deviceLost)
            putBack();
        throw;
    } catch (...) {
        putBack();
        throw;
    }
    state.conversation.session.truncate(0);
    state.plan = std::move(plan);
    state.recipe = recipe;
    state.effective = effective;
    state.options = options;
}

void Engine::close() {
    m_state->conversation = {};
    *m_state = State{};
}

bool Engine::isOpen() const {
    return m_state->runner != nullptr;
}
std::shared_ptr<const Model> Engine::model() const {
    return m_state->model;
}
const Recipe& Engine::recipe() const {
    return m_state->recipe;
}
const EngineOptions& Engine::options() const {
    return m_state->options;
}
DeviceInfo Engine::device() const {
    return m_state->running().options().placement.front().backend->info();
}

const LoadPlan& Engine::plan() const {
    m_state->running();
    return m_state->plan;
}

GenerateResult
Engine::chat(const ChatRequest& request, const Progress& progress,
             const std::function<void(std::string_view text, TokenId token)>& onText) {
    State& state = *m_state;
    state.running();
    if (state.deviceLost) {
        const Recipe recipe = state.recipe;
        const EngineOptions options = state.options;
        reopen(recipe, options, progress);
    }
    try {
        std::string note;
        const auto prompt = encodePrompt(*state.model, request, &note);
        GenerateResult result = generate(state.running(), state.conversation, prompt,
                                         request.options, progress, onText);
        result.note = std::move(note);
        return result;
    } catch (const Error& error) {
        state.deviceLost = error.kind() == ErrorKind::DeviceLost;
        throw;
    }
}

QualityReport Engine::measure(const Recipe& recipe, const EvaluationText& text,
                              const EvaluateOptions& options,
                              const std::filesystem::path& calibration, const Progress& progress,
                              const std::function<void(const QualityReport&)>& onPartial) {
    // Nothing of m_state is used after the first check(): a nested apply() may replace it.
    m_state->running();
    const auto model = m_state->model;
    EngineOptions wide = m_state->options;
    wide.context = options.context;
    wide.calibration = calibration;
    const auto variant = loadRunner(model, recipe, wide, progress);
    // The base is what the file says: its own activations and cache, whatever the variant runs
    // with.
    const bool asItIs =
        !wide.kv &&
        std::ranges::all_of(model->keys(),
                            [&, effective = effectiveRecipe(recipe, wide)](TensorKey key) {
                                return effective.choose(*model, key) == recipe.choose(*model, key);
                            });
    wide.activations.reset();
    wide.quickBase = false;
    wide.kv.reset();
    const auto base = loadRunner(model, Recipe{}, wide, progress);
    QualityReport report = measureQuality(*variant, base.get(), text, options, progress, onPartial);
    report.level = recipe.name;
    report.recipeHash = fmt::format("{:016x}", recipe.hash());
    if (asItIs)
        keepMeasured(*model, recipe, calibrationFor(model, recipe, progress, calibration).get(),
                     report);
    return report;
}

PromptLoss Engine::promptLoss(const ChatRequest& request, const Progress& progress) {
    constexpr int32_t kMostTokens = 256;
    State& state = *m_state;
    Runner& runner = state.running();
    const Progress alone = undisturbed(progress);
    std::vector<TokenId> tokens = encodePrompt(*state.model, request);
    const auto most = static_cast<size_t>(std::min(kMostTokens, state.options.context));
    if (tokens.size() > most)
        tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(most));
    if (tokens != state.promptTokens) {
        EngineOptions plain = state.options;
        plain.context = static_cast<int32_t>(tokens.size());
        plain.activations.reset();
        plain.quickBase = false;
        plain.kv.reset();
        const auto base = loadRunner(state.model, Recipe{}, plain, alone);
        Session session = base->newSession();
        state.promptBase = base->append(session, tokens, true, nullptr, progress.cancel.get());
        state.promptTokens = tokens;
    }
    Session& session = state.conversation.session;
    session.truncate(0);
    const std::vector<float> logits =
        runner.append(session, tokens, true, nullptr, progress.cancel.get());
    session.truncate(0);
    const auto vocabulary = static_cast<size_t>(state.model->config.vocabulary);
    std::vector<Scored> scored;
    for (size_t i = 0; i + 1 < tokens.size(); ++i)
        scored.push_back(score(logits.data() + i * vocabulary,
                               state.promptBase.data() + i * vocabulary, vocabulary,
                               tokens[i + 1]));
    const Mean kld = meanOf(scored, [](const Scored& s) { return s.kld; });
    return {kld.value, kld.error, static_cast<int64_t>(scored.size())};
}

Ledger Engine::usedMemory() const {
    Ledger ledger;
    ledger.use = m_state->running().stageMemory().front();
    const DeviceInfo info = device();
    ledger.budget = info.memoryBytes;
    if (info.freeKnown) {
        const uint64_t taken = info.memoryBytes - std::min(info.memoryBytes, info.freeBytes);
        ledger.other = taken - std::min(taken, ledger.use.total());
    }
    return ledger;
}

Ledger Engine::predictedMemory(const Model& model, const Recipe& recipe,
                               const EngineOptions& options, const DeviceInfo& device) {
    const Recipe effective = effectiveRecipe(recipe, options);
    RunOptions run = runOptionsFor(effective, options, device);
    place(run, model.config, {options.gpuLayers, std::max(options.cpuExperts, 0)},
          openDevice(device.id));
    const auto bytes = [&](TensorKey key) { return recipeBytes(model, effective, key); };
    Ledger ledger;
    ledger.use = predictMemory(model, run, bytes).front();
    ledger.budget = device.memoryBytes;
    if (device.freeKnown)
        ledger.other = device.memoryBytes - std::min(device.memoryBytes, device.freeBytes);
    return ledger;
}

std::vector<PathReport> Engine::paths() const {
    return m_state->running().paths();
}

uint64_t Engine::expertLoads() const {
    return m_state->running().expertLoads();
}

int32_t Engine::contextUsed() const {
    return static_cast<int32_t>(m_state->conversation.tokens.size());
}

} // namespace nibble
