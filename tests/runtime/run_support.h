#pragma once

#include "core/runtime/runner.h"
#include "tests/support/shared_data.h"

#include <algorithm>
#include <memory>

namespace nibble::test {

inline std::unique_ptr<Runner> makeRunner(std::shared_ptr<const Model> model,
                                          std::vector<Placement> placement,
                                          ActivationFormat activations = ActivationFormat::Float,
                                          int32_t maxRows = 64, KvFormat kv = KvFormat::F32,
                                          int32_t sessions = 4) {
    RunOptions options;
    options.placement = std::move(placement);
    options.context = 128;
    options.sessions = sessions;
    options.maxRows = maxRows;
    options.kFormat = options.vFormat = kv;
    auto runner = std::make_unique<Runner>(model, options);
    for (const TensorKey key : model->keys())
        runner->setTensor(key, model->load(key), activations);
    return runner;
}

/// The tokens of greedy decoding after a prompt.
inline std::vector<TokenId> greedy(Runner& runner, std::vector<TokenId> prompt, int count) {
    Session session = runner.newSession();
    std::vector<TokenId> tokens;
    std::vector<float> logits = runner.append(session, prompt);
    for (int i = 0; i < count; ++i) {
        const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
        tokens.push_back(static_cast<TokenId>(best));
        logits = runner.append(session, std::span(tokens).last(1));
    }
    return tokens;
}

} // namespace nibble::test
