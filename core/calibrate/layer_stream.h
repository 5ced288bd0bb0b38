#pragma once

#include "core/base/progress.h"
#include "core/calibrate/text.h"
#include "core/runtime/runner.h"

#include <memory>
#include <vector>

namespace nibble {

/// The windows of a text on their way through the base model, one layer after the other.
class LayerStream {
public:
    /// Error{BadInput} for a text that is shorter than a window.
    LayerStream(std::shared_ptr<const Model> model, const EvaluationTokens& text, int32_t context,
                int32_t windows);

    /// The layer that run() does next; layers() after the last, when only the head is left.
    int32_t next() const { return m_next; }
    int32_t layers() const { return m_model->config.layers; }
    int64_t tokens() const;
    void restart();

    /// Takes every window through the next layer, or, after the last one, shows the tap what the
    /// head multiplies. `tap` may be null.
    void run(Tap* tap, const Progress& progress);

private:
    void runLayer(Tap* tap, const Progress& progress);
    void showHead(Tap& tap) const;

    std::shared_ptr<const Model> m_model;
    std::shared_ptr<Backend> m_backend;
    int32_t m_context;
    std::vector<std::vector<TokenId>> m_windows;
    std::vector<float> m_hidden; ///< [token of all windows][width], after the layers done
    int32_t m_next = 0;
};

} // namespace nibble
