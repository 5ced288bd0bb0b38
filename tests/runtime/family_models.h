#pragma once

#include "core/base/hash.h"
#include "core/base/random.h"
#include "core/files/checkpoint.h"
#include "tests/runtime/family_list.h"
#include "tests/runtime/vulkan_support.h"

#include <QTest>

#include <fstream>

/// Tiny random models of the families, as folders, and their logits.
namespace nibble::test {

/// The family's tensors, random; norms near what they are in trained models.
inline PlainTensors randomTensors(const Family& f) {
    PlainTensors tensors;
    Random random(hashText(f.huggingFaceClass));
    const auto uniform = [&] { return static_cast<float>(random.next() >> 40) * 0x1p-24f * 2 - 1; };
    const auto put = [&](const std::string& name, std::vector<int64_t> dims, float scale,
                         float middle = 0) {
        int64_t count = 1;
        for (const int64_t dim : dims)
            count *= dim;
        PlainTensor t{std::move(dims), {}};
        for (int64_t i = 0; i < count; ++i)
            t.values.push_back(middle + scale * uniform());
        tensors[name] = std::move(t);
    };
    const PlainShape& s = f.shape;
    const PlainNames& n = f.names;
    const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols,
                            bool bias = false) {
        put(name + ".weight",
            f.facts.transposed ? std::vector{cols, rows} : std::vector{rows, cols},
            2.5f / std::sqrt(static_cast<float>(cols)));
        if (bias)
            put(name + ".bias", {rows}, 0.5f);
    };
    const auto norm = [&](const std::string& name, int64_t width) {
        if (name.ends_with("none") || name.ends_with("."))
            return;
        put(name + ".weight", {width}, 0.5f, f.facts.normOffset > 0 ? 0.0f : 1.0f);
        if (f.facts.layerNorm)
            put(name + ".bias", {width}, 0.5f);
    };
    const int64_t w = s.width, qw = int64_t(s.heads) * s.headSize,
                  kw = int64_t(s.kvHeads) * s.headSize;
    put(n.embedding, {s.vocabulary, w}, 1);
    if (!n.positions.empty())
        put(n.positions, {256, w}, 1);
    if (!f.tied)
        put(n.head, {s.vocabulary, w}, 0.5f);
    norm(n.finalNorm.substr(0, n.finalNorm.size() - 7), w);
    for (int layer = 0; layer < s.layers; ++layer) {
        const std::string in = n.layer + std::to_string(layer) + ".";
        norm(in + n.inputNorm, w);
        norm(in + n.feedForwardNorm, w);
        norm(in + n.attentionPostNorm, w);
        norm(in + n.feedForwardPostNorm, w);
        if (f.facts.convolves(layer)) {
            matrix(in + n.convolution + "in_proj", 3 * w, w);
            put(in + n.convolution + "conv.weight", {w, 1, f.facts.taps}, 1);
            matrix(in + n.convolution + "out_proj", w, w);
        } else if (n.queryKeyValue.empty()) {
            matrix(in + n.query, qw, w, f.biased);
            matrix(in + n.key, kw, w, f.biased);
            matrix(in + n.value, kw, w, f.biased);
        } else {
            matrix(in + n.queryKeyValue, qw + 2 * kw, w, f.biased);
        }
        if (f.facts.queryKeyNorm != FamilyFacts::Qk::None && !f.facts.convolves(layer)) {
            const bool full = f.facts.queryKeyNorm == FamilyFacts::Qk::Full;
            norm(in + n.queryNorm, full ? qw : s.headSize);
            norm(in + n.keyNorm, full ? kw : s.headSize);
        }
        if (!f.facts.convolves(layer))
            matrix(in + n.output, w, qw, f.facts.layerNorm || f.biasedEverywhere);
        if (!n.sinks.empty())
            put(in + n.sinks, {s.heads}, 1);
        if (f.facts.mixture(layer)) {
            matrix(in + n.router, s.experts, w, f.biasedEverywhere);
            for (int e = 0; e < s.experts; ++e) {
                const std::string one = in + n.expert + std::to_string(e) + ".";
                matrix(one + n.expertGate, s.feedForward, w, f.biasedEverywhere);
                matrix(one + n.expertUp, s.feedForward, w, f.biasedEverywhere);
                matrix(one + n.expertDown, w, s.feedForward, f.biasedEverywhere);
            }
            if (!n.shared.empty()) {
                matrix(in + n.sharedRouter, 1, w);
                matrix(in + n.shared + "gate_proj", f.sharedFeedForward, w);
                matrix(in + n.shared + "up_proj", f.sharedFeedForward, w);
                matrix(in + n.shared + "down_proj", w, f.sharedFeedForward);
            }
            continue;
        }
        if (!n.gateUp.empty()) {
            matrix(in + n.gateUp, 2 * int64_t(s.feedForward), w);
        } else {
            if (!n.gate.empty())
                matrix(in + n.gate, s.feedForward, w);
            matrix(in + n.up, s.feedForward, w, f.facts.layerNorm);
        }
        matrix(in + n.down, w, s.feedForward, f.facts.layerNorm);
    }
    return tensors;
}

inline bool isOfExpert(const std::string& name) {
    return name.find(".experts.") != std::string::npos;
}

/// One part of all experts of a layer, in the order of a folder of gpt-oss: [experts][inputs]
/// [outputs], gates and ups by turns (biases have no inputs).
inline PlainTensor stacked(const Family& f, const PlainTensors& tensors, const std::string& experts,
                           std::initializer_list<const char*> roles, const std::string& part) {
    PlainTensor out;
    int64_t outputs = 0, inputs = 0;
    for (int e = 0; e < f.shape.experts; ++e) {
        const auto of = [&](const char* role) -> const PlainTensor& {
            return tensors.at(experts + std::to_string(e) + "." + role + part);
        };
        outputs = of(*roles.begin()).dims[0];
        inputs = part == ".bias" ? 1 : of(*roles.begin()).dims[1];
        for (int64_t in = 0; in < inputs; ++in)
            for (int64_t o = 0; o < outputs; ++o)
                for (const char* role : roles)
                    out.values.push_back(of(role).values[static_cast<size_t>(o * inputs + in)]);
    }
    outputs *= static_cast<int64_t>(roles.size());
    out.dims = {f.shape.experts, inputs, outputs};
    if (part == ".bias")
        out.dims = {f.shape.experts, outputs};
    return out;
}

/// The tensors as folders of gpt-oss have them.
inline PlainTensors withStacks(const Family& f, const PlainTensors& tensors) {
    PlainTensors out = tensors;
    std::erase_if(out, [](const auto& entry) { return isOfExpert(entry.first); });
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".mlp.experts.";
        for (const std::string part : {"", "_bias"}) {
            const std::string own = part.empty() ? ".weight" : ".bias";
            out[in + "gate_up_proj" + part] =
                stacked(f, tensors, in, {"gate_proj", "up_proj"}, own);
            out[in + "down_proj" + part] = stacked(f, tensors, in, {"down_proj"}, own);
        }
    }
    return out;
}

inline Json configOf(const Family& f) {
    Json config = {{"architectures", {f.huggingFaceClass}},
                   {"hidden_size", f.shape.width},
                   {"intermediate_size", f.shape.feedForward},
                   {"num_hidden_layers", f.shape.layers},
                   {"num_attention_heads", f.shape.heads},
                   {"num_key_value_heads", f.shape.kvHeads},
                   {"vocab_size", f.shape.vocabulary},
                   {"max_position_embeddings", 256},
                   {"rms_norm_eps", 1e-5},
                   {"tie_word_embeddings", f.tied}};
    config.update(f.config);
    return config;
}

inline void writeFolder(const Family& f, const PlainTensors& all,
                        const std::filesystem::path& folder) {
    const PlainTensors tensors = f.names.sinks.empty() ? all : withStacks(f, all);
    std::ofstream(folder / "config.json") << configOf(f).dump(2);
    std::vector<SafetensorsTensor> table;
    std::vector<Bytes> contents;
    for (const auto& [name, tensor] : tensors) {
        contents.push_back(Bytes::of(tensor.values));
        table.push_back({name, "F32", tensor.dims, contents.back().size()});
    }
    writeSafetensors(folder / "model.safetensors", {}, table,
                     [&](size_t index) { return contents[index]; });
}

inline bool sameBytes(const Bytes& a, const Bytes& b) {
    return std::ranges::equal(a.view(), b.view());
}

inline std::vector<TokenId> prompt() {
    std::vector<TokenId> tokens;
    for (int i = 0; i < 24; ++i)
        tokens.push_back((i * 29 + 7 * i * i + 3) % 80);
    return tokens;
}

inline std::vector<float> logitsOf(std::shared_ptr<const Model> model,
                                   std::shared_ptr<Backend> backend, bool oneByOne = false) {
    const auto runner = makeRunner(model, placeAll(*model, std::move(backend)));
    Session session = runner->newSession();
    const std::vector<TokenId> tokens = prompt();
    if (!oneByOne)
        return runner->append(session, tokens, true);
    std::vector<float> all;
    for (const TokenId token : tokens) {
        const auto row = runner->append(session, {&token, 1});
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

/// The same with the experts of all but the first layer on another backend.
inline std::vector<float> logitsApart(std::shared_ptr<const Model> model,
                                      std::shared_ptr<Backend> mixers,
                                      std::shared_ptr<Backend> experts, bool oneByOne = false) {
    RunOptions options;
    options.placement = placeAll(*model, std::move(mixers));
    options.expertLayers = {1, model->config.layers};
    options.expertBackend = std::move(experts);
    options.context = 128;
    options.maxRows = 7;
    options.kFormat = options.vFormat = KvFormat::F32;
    Runner runner(model, options);
    for (const TensorKey key : model->keys())
        runner.setTensor(key, model->load(key));
    Session session = runner.newSession();
    const std::vector<TokenId> tokens = prompt();
    std::vector<float> all;
    for (size_t at = 0, each = oneByOne ? 1 : tokens.size(); at < tokens.size(); at += each) {
        const auto rows = runner.append(session, std::span(tokens).subspan(at, each), true);
        all.insert(all.end(), rows.begin(), rows.end());
    }
    return all;
}

/// At most 7 layers of 7 products that follow each other, with sums of at most 96 terms in float.
inline constexpr double kRounding = 7 * 7 * 96 * 0x1p-24;

/// What a wrong switch must change at the least.
inline constexpr double kWrong = 4 * kRounding;

inline void checkBackends(const std::shared_ptr<const Model>& model,
                          const std::vector<float>& expected) {
    const auto simd = logitsOf(model, openCpu());
    const double error = relativeError(simd, expected);
    QVERIFY2(error < kRounding, qPrintable(QString("simd: %1").arg(error)));
    QVERIFY(logitsOf(model, openCpu(), true) == simd);
    const double plainError = relativeError(logitsOf(model, openCpu(CpuMode::Scalar)), expected);
    QVERIFY2(plainError < kRounding, qPrintable(QString("scalar: %1").arg(plainError)));
    if (model->config.experts > 0) {
        QVERIFY(logitsApart(model, openCpu(), openCpu()) == simd);
        QVERIFY(logitsApart(model, openCpu(), openCpu(), true) == simd);
    }
}

/// Experts on the CPU, and on the device alone.
inline void checkApart(const std::shared_ptr<const Model>& model,
                       const std::shared_ptr<Backend>& device, const std::vector<float>& expected) {
    if (model->config.experts == 0)
        return;
    for (const bool oneByOne : {false, true})
        for (const bool mixes : {false, true}) {
            const auto logits = mixes ? logitsApart(model, device, openCpu(), oneByOne)
                                      : logitsApart(model, openCpu(), device, oneByOne);
            const double error = relativeError(logits, expected);
            QVERIFY2(error < kRounding, qPrintable(QString("apart: %1").arg(error)));
        }
}

} // namespace nibble::test
