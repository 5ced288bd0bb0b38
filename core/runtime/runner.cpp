#include "core/runtime/runner.h"

#include "core/base/error.h"
#include "core/model/names.h"
#include "core/runtime/memory.h"
#include "core/runtime/session.h"

#include <algorithm>

namespace nibble {

/// A stage's share of a pass: layers one after the other, or parts of them.
struct Segment {
    size_t stage = 0;
    LayerRange layers;
    bool skipsMixer = false, skipsFeedForward = false;
};

struct Runner::State {
    std::shared_ptr<const Model> model;
    RunOptions options;
    std::vector<StageOptions> stageOptions;
    std::vector<std::unique_ptr<Stage>> stages;
    std::vector<size_t> mixers, feeds; // by layer: the stage that holds the part
    std::vector<Segment> segments;     // of the call
    std::shared_ptr<Session::Pages> pages;
    Batch batch;               // reused from call to call
    std::vector<float> hidden; // rows on their way between stages

    void checkPlacement() const;
    void checkExperts() const;
    void cut(LayerRange layers);
    void makeWritable(Session& session, int32_t from, int32_t to);
    void check(std::span<const ForwardRow> rows, bool whole) const;
    void addRows(std::span<const ForwardRow> rows);
    void forget(std::span<const ForwardRow> rows);
    void runStages(LayerRange layers, std::span<const float> hiddenIn, const ForwardIo& io);
    void runSegment(const Segment& segment, bool sameRows, const ForwardIo& io);
};

std::vector<Placement> placeAll(const Model& model, std::shared_ptr<Backend> backend) {
    return {{.layers = {0, model.config.layers}, .backend = std::move(backend)}};
}

void Runner::State::checkPlacement() const {
    int32_t next = 0;
    for (const Placement& placement : options.placement) {
        if (placement.layers.begin != next || placement.layers.end <= next || !placement.backend)
            fail(ErrorKind::Usage,
                 "Layers {} to {} were placed where a device for layers from {} on was expected.",
                 placement.layers.begin, placement.layers.end, next);
        next = placement.layers.end;
    }
    if (next != model->config.layers)
        fail(ErrorKind::Usage, "{} of {} layers have a device to run on.", next,
             model->config.layers);
    if (options.expertBackend)
        checkExperts();
    if (options.context < 1 || options.sessions < 1 || options.maxRows < 1)
        fail(ErrorKind::Usage, "A runner needs a context, sessions and rows of at least 1.");
}

void Runner::State::checkExperts() const {
    const LayerRange range = options.expertLayers;
    bool any = false;
    for (int32_t layer = std::max(range.begin, 0);
         layer < std::min(range.end, model->config.layers); ++layer)
        any = any || model->config.layer(layer).experts;
    if (range.begin < 0 || range.end > model->config.layers || !any)
        fail(ErrorKind::Usage, "Layers {} to {} of {} have no experts that could run apart.",
             range.begin, range.end, model->config.layers);
}

Runner::Runner(std::shared_ptr<const Model> model, RunOptions options)
    : m_state(std::make_unique<State>()) {
    model->requireRunnable();
    State& s = *m_state;
    s.model = std::move(model);
    s.options = std::move(options);
    s.checkPlacement();
    s.pages =
        std::make_shared<Session::Pages>(pageCount(s.options), s.model->config.hasConvolutions());
    const ModelConfig config = s.model->config.inContext(s.options.context);
    s.mixers.resize(size_t(config.layers));
    s.feeds.resize(size_t(config.layers));
    for (size_t i = 0; i < stageCount(s.options); ++i) {
        const StageOptions stage = nibble::stageOptions(s.model->config, s.options, i);
        s.stages.push_back(stageBackend(s.options, i).makeStage(config, stage));
        for (int32_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
            if (stage.mixes(layer))
                s.mixers[size_t(layer)] = i;
            if (stage.feeds(layer))
                s.feeds[size_t(layer)] = i;
        }
        s.stageOptions.push_back(stage);
    }
    s.batch.rows.reserve(static_cast<size_t>(s.options.maxRows));
}

Runner::~Runner() = default;

void Runner::setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) {
    for (size_t i = 0; i < m_state->stages.size(); ++i)
        if (stageHolds(m_state->model->config, m_state->stageOptions[i], key))
            m_state->stages[i]->setTensor(key, tensor, activations);
}

void Runner::setLazily(TensorKey key, const LazyTensor& tensor, const Activations& activations) {
    for (size_t i = 0; i < m_state->stages.size(); ++i)
        if (stageHolds(m_state->model->config, m_state->stageOptions[i], key))
            m_state->stages[i]->setLazily(key, tensor, activations);
}

uint64_t Runner::expertLoads() const {
    uint64_t sum = 0;
    for (const auto& stage : m_state->stages)
        sum += stage->expertLoads();
    return sum;
}

Session Runner::newSession() {
    Session session;
    session.m_pool = m_state->pages;
    return session;
}

/// Gives the session pages of its own for positions [from, to).
void Runner::State::makeWritable(Session& session, int32_t from, int32_t to) {
    const auto first = static_cast<size_t>(from / kPageTokens);
    const auto last = static_cast<size_t>((to - 1) / kPageTokens);
    for (size_t i = first; i <= last; ++i) {
        if (i >= session.m_pages.size()) {
            session.m_pages.push_back(pages->take());
        } else if (const int32_t shared = session.m_pages[i]; pages->isShared(shared)) {
            const int32_t own = pages->take();
            try {
                for (auto& stage : stages)
                    stage->copyPage(shared, own);
            } catch (...) {
                pages->release(own);
                throw;
            }
            pages->release(shared);
            session.m_pages[i] = own;
        }
    }
}

/// Refuses rows that cannot run before anything is changed: tokens outside the vocabulary,
/// positions with a gap, full sessions, too few free pages.
void Runner::State::check(std::span<const ForwardRow> rows, bool whole) const {
    int32_t pagesNeeded = 0;
    for (size_t begin = 0; begin < rows.size();) {
        const Session& session = *rows[begin].session;
        if (session.m_pool != pages)
            fail(ErrorKind::Internal, "A session of another runner was used.");
        const int32_t first = rows[begin].position < 0 ? session.m_length : rows[begin].position;
        if (first > session.m_length)
            fail(ErrorKind::Internal, "Position {} of a session that holds {} tokens.", first,
                 session.m_length);
        if (whole && first < session.m_length && pages->rewound(first) != first)
            fail(ErrorKind::Internal,
                 "Position {} in the middle of a page, of which only the end's state is kept.",
                 first);
        int32_t next = first;
        for (; begin < rows.size() && rows[begin].session == &session; ++begin, ++next) {
            if (rows[begin].position >= 0 && rows[begin].position != next)
                fail(ErrorKind::Internal, "Position {} follows position {}.", rows[begin].position,
                     next - 1);
            if (rows[begin].token < 0 || rows[begin].token >= model->config.vocabulary)
                fail(ErrorKind::BadInput, "Token {} is not in the vocabulary of {} tokens.",
                     rows[begin].token, model->config.vocabulary);
        }
        if (next > options.context)
            fail(ErrorKind::BadInput,
                 "The session would hold {} tokens, but its context is {}; shorten the text or "
                 "open it with a larger context.",
                 next, options.context);
        const auto lastPage = static_cast<size_t>((next - 1) / kPageTokens);
        for (auto i = static_cast<size_t>(first / kPageTokens); i <= lastPage; ++i)
            pagesNeeded += i >= session.m_pages.size() || pages->isShared(session.m_pages[i]);
    }
    if (pagesNeeded > pages->freeCount())
        fail(ErrorKind::BadInput,
             "The cache has {} free pages of {} tokens, but {} are needed; end a session, or open "
             "the model with a larger context or more sessions.",
             pages->freeCount(), kPageTokens, pagesNeeded);
}

/// Fills the batch; sessions grow to hold the rows' positions.
void Runner::State::addRows(std::span<const ForwardRow> rows) {
    batch.rows.clear();
    batch.logitRows.clear();
    size_t sequences = 0;
    for (size_t begin = 0; begin < rows.size(); ++sequences) {
        Session& session = *rows[begin].session;
        const int32_t first = rows[begin].position < 0 ? session.m_length : rows[begin].position;
        int32_t next = first;
        for (; begin < rows.size() && rows[begin].session == &session; ++begin, ++next) {
            if (rows[begin].wantLogits)
                batch.logitRows.push_back(static_cast<int32_t>(begin));
            batch.rows.push_back({rows[begin].token, next, static_cast<int32_t>(sequences)});
        }
        makeWritable(session, first, next);
        session.m_length = next;
        if (batch.sequences.size() <= sequences)
            batch.sequences.emplace_back();
        batch.sequences[sequences].assign(session.m_pages.begin(), session.m_pages.end());
    }
    batch.sequences.resize(sequences);
}

/// After a failed call: what was appended is not in the cache, so sessions forget it. Their states
/// may be those of tokens that are forgotten.
void Runner::State::forget(std::span<const ForwardRow> rows) {
    for (size_t i = 0; i < batch.rows.size(); ++i)
        if (i == 0 || rows[i].session != rows[i - 1].session)
            rows[i].session->m_length = pages->rewound(batch.rows[i].position);
}

/// Fills `segments`: as few as the stages allow, since rows are copied between them.
void Runner::State::cut(LayerRange layers) {
    segments.clear();
    const auto add = [&](size_t stage, int32_t layer, bool mixes) {
        if (segments.empty() || segments.back().stage != stage)
            segments.push_back({stage, {layer, layer}, !mixes, false});
        segments.back().layers.end = layer + 1;
        segments.back().skipsFeedForward = mixes;
    };
    for (int32_t layer = layers.begin; layer < layers.end; ++layer) {
        add(mixers[size_t(layer)], layer, true);
        add(feeds[size_t(layer)], layer, false);
    }
    // The head may follow experts that run apart.
    const int32_t end = model->config.layers;
    if (const size_t heads = options.placement.size() - 1;
        layers.end == end && !batch.logitRows.empty() && segments.back().stage != heads)
        segments.push_back({heads, {end, end}, false, false});
}

/// The forward pass of every architecture, over what one stage holds of the layers.
void Runner::State::runSegment(const Segment& segment, bool sameRows, const ForwardIo& io) {
    Stage& stage = *stages[segment.stage];
    const LayerRange layers = segment.layers;
    const bool enters = layers.begin == 0 && !segment.skipsMixer;
    const bool heads = layers.end == model->config.layers && !batch.logitRows.empty() &&
                       stageOptions[segment.stage].heads && !segment.skipsFeedForward;
    batch.layers = layers;
    batch.skipsMixer = segment.skipsMixer;
    batch.skipsFeedForward = segment.skipsFeedForward;
    batch.sameRows = sameRows;
    batch.cancel = io.cancel;
    if (!enters)
        stage.setHidden(hidden);
    const auto check = [&] {
        if (io.cancel && io.cancel->load(std::memory_order_relaxed))
            fail(ErrorKind::Cancelled, "Cancelled.");
    };
    if (stage.begin(batch, io.tap)) {
        if (enters)
            stage.embed();
        for (int32_t layer = layers.begin; layer < layers.end; ++layer) {
            if (layer > layers.begin || !segment.skipsMixer) {
                if (model->config.layer(layer).mixer == Mixer::Convolution) {
                    stage.convolution(layer);
                } else {
                    stage.qkv(layer);
                    check();
                    stage.attention(layer);
                    stage.attentionOutput(layer);
                }
                check();
            }
            if (layer + 1 < layers.end || !segment.skipsFeedForward) {
                stage.gateUp(layer);
                check();
                stage.down(layer);
            }
        }
        if (heads)
            stage.logits();
    }
    stage.end();
}

/// One chunk of rows through all stages that hold a part of `layers`.
void Runner::State::runStages(LayerRange layers, std::span<const float> hiddenIn,
                              const ForwardIo& io) {
    const ModelConfig& config = model->config;
    const size_t values = batch.rows.size() * static_cast<size_t>(config.width);
    hidden.assign(hiddenIn.begin(), hiddenIn.end());
    cut(layers);
    for (const Segment& segment : segments) {
        // Between segments, as the steps of those that are replayed are not gone through.
        if (io.cancel && io.cancel->load(std::memory_order_relaxed))
            fail(ErrorKind::Cancelled, "Cancelled.");
        const bool sameRows =
            std::any_of(segments.cbegin(), segments.cbegin() + (&segment - segments.data()),
                        [&](const Segment& before) { return before.stage == segment.stage; });
        runSegment(segment, sameRows, io);
        const bool last = &segment == &segments.back();
        const bool changes = segment.layers.begin < segment.layers.end;
        if (changes && (!last || io.hiddenOut)) {
            hidden.resize(values);
            stages[segment.stage]->readHidden(hidden);
        }
        if (last && io.hiddenOut)
            io.hiddenOut->insert(io.hiddenOut->end(), hidden.begin(), hidden.end());
        if (last && io.logits && layers.end == config.layers && !batch.logitRows.empty()) {
            const size_t at = io.logits->size();
            io.logits->resize(at + batch.logitRows.size() * static_cast<size_t>(config.vocabulary));
            stages[segment.stage]->readLogits(std::span(*io.logits).subspan(at));
        }
    }
}

void Runner::forward(std::span<const ForwardRow> rows, const ForwardIo& io) {
    State& s = *m_state;
    const ModelConfig& config = s.model->config;
    LayerRange layers = io.layers;
    if (layers.end == 0)
        layers.end = config.layers;
    if (layers.begin < 0 || layers.begin >= layers.end || layers.end > config.layers)
        fail(ErrorKind::Internal, "Layers {} to {} of {} cannot be run.", layers.begin, layers.end,
             config.layers);
    const auto width = static_cast<size_t>(config.width);
    if (layers.begin > 0 && io.hiddenIn.size() != rows.size() * width)
        fail(ErrorKind::Internal, "{} hidden values were given for {} rows of {}.",
             io.hiddenIn.size(), rows.size(), width);
    if (io.hiddenOut)
        io.hiddenOut->clear();
    if (io.logits)
        io.logits->clear();
    s.check(rows, layers == LayerRange{0, config.layers});
    const auto most = static_cast<size_t>(s.options.maxRows);
    for (size_t at = 0; at < rows.size(); at += most) {
        const auto chunk = rows.subspan(at, std::min(most, rows.size() - at));
        try {
            s.addRows(chunk);
            s.runStages(layers,
                        layers.begin > 0 ? io.hiddenIn.subspan(at * width, chunk.size() * width)
                                         : std::span<const float>(),
                        io);
        } catch (...) {
            s.forget(chunk);
            throw;
        }
    }
}

std::vector<float> Runner::append(Session& session, std::span<const TokenId> tokens, bool allLogits,
                                  Tap* tap, const std::atomic<bool>* cancel) {
    std::vector<ForwardRow> rows(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i)
        rows[i] = {.session = &session,
                   .token = tokens[i],
                   .position = -1,
                   .wantLogits = allLogits || i + 1 == tokens.size()};
    std::vector<float> logits;
    ForwardIo io;
    io.logits = &logits;
    io.tap = tap;
    io.cancel = cancel;
    forward(rows, io);
    return logits;
}

const Model& Runner::model() const {
    return *m_state->model;
}
const RunOptions& Runner::options() const {
    return m_state->options;
}

std::vector<MemoryUse> Runner::stageMemory() const {
    std::vector<MemoryUse> uses;
    for (const auto& stage : m_state->stages)
        uses.push_back(stage->memory());
    return uses;
}

MemoryUse Runner::memory() const {
    MemoryUse sum;
    for (const MemoryUse& use : stageMemory()) {
        sum.weights += use.weights;
        sum.kv += use.kv;
        sum.scratch += use.scratch;
    }
    return sum;
}

std::vector<PathReport> Runner::paths() const {
    std::vector<PathReport> all;
    for (const auto& stage : m_state->stages) {
        const auto part = stage->paths();
        all.insert(all.end(), part.begin(), part.end());
    }
    for (PathReport& path : all)
        if (const TensorInfo* info = model().find(path.key))
            path.stored = info->type->name;
    return all;
}

double Runner::barriersPerLayer() const {
    double most = 0;
    for (const auto& stage : m_state->stages)
        most = std::max(most, stage->barriersPerLayer());
    return most;
}

void Runner::setTimed(bool timed) {
    for (const auto& stage : m_state->stages)
        stage->setTimed(timed);
}

std::vector<StepTime> Runner::stepTimes() const {
    std::vector<StepTime> all;
    for (const auto& stage : m_state->stages) {
        const auto part = stage->stepTimes();
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

} // namespace nibble
