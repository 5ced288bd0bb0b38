#include "core/calibrate/layer_stream.h"

#include "core/base/error.h"
#include "core/base/hash.h"

#include <algorithm>
#include <cmath>

namespace nibble {

LayerStream::LayerStream(const std::shared_ptr<const Model>& model, const EvaluationTokens& text,
                         int32_t context, int32_t windows)
    : m_model(model), m_layers(model->config.layers), m_width(model->config.width),
      m_backend(openCpu()), m_context(std::min(context, model->config.contextLength)) {
    const auto length = static_cast<size_t>(m_context);
    const size_t all = text.tokens.size() / length;
    if (all == 0)
        fail(
            ErrorKind::BadInput,
            "{} has {} tokens; calibration needs at least one window of {}, and better 64 of them. "
            "Use a longer text, or more of it.",
            printable(text.label), text.tokens.size(), m_context);
    for (size_t i = 0; i < std::min(all, static_cast<size_t>(windows)); ++i) {
        // Evenly over the text, so that a long one is not judged by its beginning.
        const size_t at = i * all / std::min(all, static_cast<size_t>(windows)) * length;
        const auto from = text.tokens.begin() + static_cast<std::ptrdiff_t>(at);
        auto& window = m_windows.emplace_back(from, from + static_cast<std::ptrdiff_t>(length));
        if (text.bos >= 0)
            window[0] = text.bos;
    }
}

int64_t LayerStream::tokens() const {
    return static_cast<int64_t>(m_windows.size()) * m_context;
}

void LayerStream::restart() {
    m_next = 0;
    m_hidden = {};
}

size_t LayerStream::hiddenSize() const {
    return static_cast<size_t>(tokens()) * static_cast<size_t>(m_width);
}

void LayerStream::resume(int32_t next, std::vector<float> hidden) {
    m_next = next;
    m_hidden = std::move(hidden);
}

uint64_t LayerStream::hash() const {
    uint64_t hash = hashText("");
    for (const auto& window : m_windows)
        hash = hashBytes(std::as_bytes(std::span(window)), hash);
    return hash;
}

void LayerStream::run(Tap* tap, const Progress& progress) {
    const std::shared_ptr<const Model> model = m_model.lock();
    if (!model)
        fail(ErrorKind::Usage, "The model has been closed, so that its calibration cannot go on; "
                               "open it again.");
    if (m_next < layers())
        runLayer(model, tap, progress);
    else if (tap)
        showHead(*model, *tap);
    ++m_next;
}

void LayerStream::runLayer(const std::shared_ptr<const Model>& model, Tap* tap,
                           const Progress& progress) {
    RunOptions options;
    options.placement = placeAll(*model, m_backend);
    options.context = options.maxRows = m_context;
    options.kFormat = options.vFormat = KvFormat::F32;
    Runner runner(model, options);
    for (const TensorKey key : model->keys())
        if (key.layer == m_next || (m_next == 0 && key.role == Role::TokenEmbedding)) {
            progress.check();
            runner.setTensor(key, model->load(key));
        }
    const size_t values = static_cast<size_t>(m_context) * static_cast<size_t>(m_width);
    m_hidden.resize(values * m_windows.size());
    std::vector<float> out;
    for (size_t i = 0; i < m_windows.size(); ++i) {
        progress.check();
        Session session = runner.newSession();
        std::vector<ForwardRow> rows;
        for (const TokenId token : m_windows[i])
            rows.push_back({&session, token, -1, false});
        ForwardIo io;
        io.layers = {m_next, m_next + 1};
        const auto hidden = std::span(m_hidden).subspan(i * values, values);
        if (m_next > 0)
            io.hiddenIn = hidden;
        io.hiddenOut = &out;
        io.tap = tap;
        io.cancel = progress.cancel.get();
        runner.forward(rows, io);
        std::copy(out.begin(), out.end(), hidden.begin());
    }
}

/// The norm before the head, row by row: running the head itself would cost more than all layers.
void LayerStream::showHead(const Model& model, Tap& tap) const {
    const TapSite site{TapSite::What::ProductInput, {Role::Output, -1}};
    if (!tap.wants(site))
        return;
    const std::vector<float> weight = decode(model.load({Role::OutputNorm, -1}));
    const bool centred = model.config.norm == NormKind::Layer;
    const size_t width = weight.size();
    std::vector<float> bias(width);
    if (centred && model.find({Role::OutputNormBias, -1}))
        bias = decode(model.load({Role::OutputNormBias, -1}));
    std::vector<float> rows(static_cast<size_t>(m_context) * width);
    for (size_t i = 0; i < m_windows.size(); ++i) {
        for (size_t row = 0; row < static_cast<size_t>(m_context); ++row) {
            const float* x = m_hidden.data() + (i * static_cast<size_t>(m_context) + row) * width;
            double mean = 0, squares = 0;
            for (size_t c = 0; centred && c < width; ++c)
                mean += double(x[c]) / double(width);
            for (size_t c = 0; c < width; ++c)
                squares += (double(x[c]) - mean) * (double(x[c]) - mean);
            const auto factor = static_cast<float>(
                1 / std::sqrt(squares / double(width) + double(model.config.normEpsilon)));
            for (size_t c = 0; c < width; ++c)
                rows[row * width + c] =
                    (x[c] - static_cast<float>(mean)) * factor * weight[c] + bias[c];
        }
        tap.values(site, m_context, static_cast<int32_t>(width), rows.data());
    }
}

} // namespace nibble
