#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/base/parallel.h"
#include "core/base/random.h"
#include "core/model/architectures.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

namespace nibble {
namespace {

struct SyntheticShape {
    const char* name;
    int32_t layers, width, feedForward, heads, kvHeads, vocabulary, context;
};
constexpr SyntheticShape kShapes[] = {
    {"tiny", 2, 64, 160, 4, 2, 256, 512},
    {"100m", 12, 768, 2048, 12, 4, 32000, 4096},
    {"1b", 22, 2048, 5632, 32, 4, 32000, 4096},
    {"7b", 32, 4096, 11008, 32, 32, 32000, 4096},
};

/// The midpoints' standard normal quantiles of 65536 equal parts, so that sixteen random bits make
/// one normal value by a look-up.
const std::vector<float>& normalQuantiles() {
    static const std::vector<float> table = [] {
        constexpr int kParts = 1 << 16;
        std::vector<float> values(kParts);
        double x = 0;
        for (int i = kParts / 2; i < kParts; ++i) {
            const double target = (i + 0.5) / kParts;
            for (int step = 0; step < 8; ++step) {
                const double area = 0.5 * std::erfc(-x / std::numbers::sqrt2);
                const double slope = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
                x += (target - area) / slope;
            }
            values[static_cast<size_t>(i)] = static_cast<float>(x);
            values[static_cast<size_t>(kParts - 1 - i)] = static_cast<float>(-x);
        }
        return values;
    }();
    return table;
}

Tensor randomMatrix(const TensorInfo& info, uint64_t seed) {
    const float sigma = 1.0f / std::sqrt(static_cast<float>(info.cols()));
    const auto& quantiles = normalQuantiles();
    std::vector<uint16_t> half(quantiles.size());
    for (size_t i = 0; i < half.size(); ++i)
        half[i] = floatToHalf(quantiles[i] * sigma);
    std::vector<uint16_t> values(static_cast<size_t>(info.values()));
    const auto cols = static_cast<size_t>(info.cols());
    parallelFor(static_cast<size_t>(info.rows()), 64, [&](size_t begin, size_t end) {
        for (size_t row = begin; row < end; ++row) {
            Random random(seed + row * 0x9e3779b97f4a7c15ull);
            uint16_t* out = values.data() + row * cols;
            for (size_t i = 0; i < cols; i += 4) {
                uint64_t bits = random.next();
                for (size_t j = i; j < std::min(i + 4, cols); ++j, bits >>= 16)
                    out[j] = half[bits & 0xffff];
            }
        }
    });
    Tensor tensor;
    tensor.format = &getFormat("f16");
    tensor.codes = Bytes::of(std::move(values));
    return tensor;
}

Tensor ones(const TensorInfo& info) {
    Tensor tensor;
    tensor.format = &getFormat("f32");
    tensor.codes = Bytes::of(std::vector<float>(static_cast<size_t>(info.values()), 1.0f));
    return tensor;
}

void setInteger(Metadata& metadata, const char* key, int64_t value) {
    constexpr uint32_t kGgufUint32 = 4;
    metadata.entries[key] = {.value = value, .storedType = kGgufUint32};
}
void setText(Metadata& metadata, const char* key, std::string value) {
    constexpr uint32_t kGgufString = 8;
    metadata.entries[key] = {.value = std::move(value), .storedType = kGgufString};
}
void setFloat(Metadata& metadata, const char* key, double value) {
    constexpr uint32_t kGgufFloat32 = 6;
    metadata.entries[key] = {.value = value, .storedType = kGgufFloat32};
}

Metadata describeShape(const SyntheticShape& shape) {
    Metadata m;
    m.source = fmt::format("synthetic {}", shape.name);
    setText(m, "general.architecture", "llama");
    setText(m, "general.name", m.source);
    setInteger(m, "llama.block_count", shape.layers);
    setInteger(m, "llama.embedding_length", shape.width);
    setInteger(m, "llama.feed_forward_length", shape.feedForward);
    setInteger(m, "llama.attention.head_count", shape.heads);
    setInteger(m, "llama.attention.head_count_kv", shape.kvHeads);
    setInteger(m, "llama.rope.dimension_count", shape.width / shape.heads);
    setInteger(m, "llama.context_length", shape.context);
    setInteger(m, "llama.vocab_size", shape.vocabulary);
    setFloat(m, "llama.attention.layer_norm_rms_epsilon", double(1e-5f));
    setFloat(m, "llama.rope.freq_base", 10000);
    setText(m, "tokenizer.ggml.model", "no_vocab"); // so that llama.cpp runs the file, too
    return m;
}

std::vector<TensorInfo> tensorsOf(const SyntheticShape& s) {
    std::vector<TensorInfo> tensors;
    const BlockType* f16 = blockTypeOf(getFormat("f16"));
    const BlockType* f32 = blockTypeOf(getFormat("f32"));
    const auto matrix = [&](std::string name, int64_t rows, int64_t cols) {
        tensors.push_back({std::move(name), {rows, cols}, f16, {}});
    };
    const auto vector = [&](std::string name, int64_t cols) {
        tensors.push_back({std::move(name), {cols}, f32, {}});
    };
    const int64_t kvWidth = int64_t(s.width) / s.heads * s.kvHeads;
    matrix("token_embd.weight", s.vocabulary, s.width);
    for (int32_t layer = 0; layer < s.layers; ++layer) {
        const std::string in = fmt::format("blk.{}.", layer);
        vector(in + "attn_norm.weight", s.width);
        matrix(in + "attn_q.weight", s.width, s.width);
        matrix(in + "attn_k.weight", kvWidth, s.width);
        matrix(in + "attn_v.weight", kvWidth, s.width);
        matrix(in + "attn_output.weight", s.width, s.width);
        vector(in + "ffn_norm.weight", s.width);
        matrix(in + "ffn_gate.weight", s.feedForward, s.width);
        matrix(in + "ffn_up.weight", s.feedForward, s.width);
        matrix(in + "ffn_down.weight", s.width, s.feedForward);
    }
    vector("output_norm.weight", s.width);
    matrix("output.weight", s.vocabulary, s.width);
    return tensors;
}

const SyntheticShape& findShape(std::string_view name) {
    std::string known;
    for (const SyntheticShape& shape : kShapes) {
        if (name == shape.name)
            return shape;
        known += std::string(known.empty() ? "" : ", ") + shape.name;
    }
    fail(ErrorKind::Usage, "There is no synthetic shape \"{}\". Known shapes: {}.", printable(name),
         known);
}

} // namespace

std::shared_ptr<const Model> makeSyntheticModel(std::string_view shapeName, uint64_t seed) {
    const SyntheticShape& shape = findShape(shapeName);
    auto checkpoint = std::make_shared<Checkpoint>();
    checkpoint->container = Checkpoint::Container::Memory;
    checkpoint->path = fmt::format("synthetic-{}", shape.name);
    checkpoint->metadata = describeShape(shape);
    checkpoint->tensors = tensorsOf(shape);
    for (size_t i = 0; i < checkpoint->tensors.size(); ++i)
        checkpoint->byName[checkpoint->tensors[i].name] = i;

    auto model = std::make_shared<Model>();
    model->name = checkpoint->metadata.source;
    model->checkpoint = checkpoint;
    const auto understood = understand(checkpoint);
    model->config = understood->config;
    model->m_keys.assign(understood->keys().begin(), understood->keys().end());
    model->m_tensors = understood->m_tensors;
    model->m_stored = understood->m_stored;
    model->m_generate = [seed](const TensorInfo& info, TensorKey key) {
        Tensor tensor =
            isMatrix(key.role) ? randomMatrix(info, hashText(info.name) ^ seed) : ones(info);
        tensor.name = info.name;
        tensor.rows = info.rows();
        tensor.cols = info.cols();
        return tensor;
    };
    return model;
}

} // namespace nibble
