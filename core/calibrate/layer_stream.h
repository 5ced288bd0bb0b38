#pragma once

#include "core/base/progress.h"
#include "core/calibrate/text.h"
#include "core/runtime/runner.h"

#include <memory>
#include <span>
#include <vector>

namespace nibble {

/// The windows of a text on their way through the base model, one layer after the other. It does
/// not keep the model open: run() is Error{Usage} when the model has been closed.
class LayerStream {
public:
    /// Error{BadInput} for a text that is shorter than a window.
    LayerStream(const std::shared_ptr<const Model>& model, const EvaluationTokens& text,
                int32_t context, int32_t windows);

    /// The layer that run() does next; layers() after the last, when only the head is left.
    int32_t next() const { return m_next; }
    int32_t layers() const { return m_layers; }
    int64_t tokens() const;
    size_t windows() const { return m_windows.size(); }
    void restart();
    /// The hidden rows of all tokens after the layers done; as many as resume() takes.
    std::span<const float> hidden() const { return m_hidden; }
    size_t hiddenSize() const;
    /// Goes on where hidden() was like that.
    void resume(int32_t next, std::vector<float> hidden);
    /// Of the windows' tokens.
    uint64_t hash() const;

    /// Takes every window through the next layer, or, after the last one, shows the tap what the
    /// head multiplies. `tap` may be null.
    void run(Tap* tap, const Progress& progress);

private:
    void runLayer(const std::shared_ptr<const Model>& model, Tap* tap, const Progress& progress);
    void showHead(const Model& model, Tap& tap) const;

    std::weak_ptr<const Model> m_model;
    int32_t m_layers, m_width;
    std::shared_ptr<Backend> m_backend;
    int32_t m_context;
    std::vector<std::vector<TokenId>> m_windows;
    std::vector<float> m_hidden; ///< [token of all windows][width], after the layers done
    int32_t m_next = 0;
};

} // namespace nibble
