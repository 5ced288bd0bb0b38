#include "core/base/limits.h"
#include "core/model/architectures.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

namespace nibble {
namespace {

/// Reads numbers of one config and names the key when a number cannot be true.
struct Reader {
    const Metadata& metadata;
    std::string prefix;

    std::string key(const char* name) const { return prefix + name; }

    int32_t checked(const std::string& name, int64_t value, int64_t least, int64_t most) const {
        if (value < least || value > most)
            fail(ErrorKind::BadInput, "{}: \"{}\" is {}, but must lie between {} and {}.",
                 printable(metadata.source), name, value, least, most);
        return static_cast<int32_t>(value);
    }
    int32_t count(const char* name, int64_t most) const {
        const std::string full = key(name);
        if (metadata.findIntegers(full))
            throw UnsupportedModel(fmt::format("{}: \"{}\" differs from layer to layer, which "
                                               "cannot be run yet; the model can be inspected.",
                                               printable(metadata.source), full));
        return checked(full, metadata.getInteger(full), 1, most);
    }
    int32_t countOr(const char* name, int64_t fallback, int64_t most) const {
        return metadata.has(key(name)) ? count(name, most) : checked(key(name), fallback, 1, most);
    }
    float positive(const char* name, double fallback) const {
        const double value = metadata.floatOr(key(name), fallback);
        if (!(value > 0) || !std::isfinite(value))
            fail(ErrorKind::BadInput, "{}: \"{}\" is {}, but must be positive.",
                 printable(metadata.source), key(name), value);
        return static_cast<float>(value);
    }
};

[[noreturn]] void refuse(const Metadata& metadata, std::string_view what) {
    throw UnsupportedModel(fmt::format("\"{}\" uses {}, which cannot be run yet; it can be "
                                       "inspected.",
                                       printable(metadata.source), what));
}

void checkHeads(const Metadata& metadata, const ModelConfig& c) {
    if (c.heads % c.kvHeads != 0)
        fail(ErrorKind::BadInput, "{}: {} attention heads cannot share {} key and value heads.",
             printable(metadata.source), c.heads, c.kvHeads);
    if (c.ropeDimensions > c.headSize || c.ropeDimensions % 2 != 0)
        fail(ErrorKind::BadInput,
             "{}: {} values of a head of {} are to be rotated; an even number up to the head's "
             "size was expected.",
             printable(metadata.source), c.ropeDimensions, c.headSize);
}

} // namespace

ModelConfig readGgufConfig(const Metadata& metadata, const char* name) {
    const Reader read{metadata, std::string(name) + "."};
    ModelConfig c;
    c.architecture = name;
    c.ropeStyle = RopeStyle::Halves;
    if (metadata.integerOr(read.key("expert_count"), 0) > 0)
        refuse(metadata, "a mixture of experts");
    c.layers = read.count("block_count", limits::kLayers);
    c.width = read.count("embedding_length", limits::kWidth);
    c.feedForward = read.count("feed_forward_length", limits::kWidth);
    c.heads = read.count("attention.head_count", limits::kWidth);
    c.kvHeads = read.countOr("attention.head_count_kv", c.heads, limits::kWidth);
    c.headSize = read.countOr("attention.key_length", c.width / c.heads, limits::kWidth);
    if (metadata.integerOr(read.key("attention.value_length"), c.headSize) != c.headSize)
        refuse(metadata, "keys and values of different length");
    c.vocabulary = read.countOr("vocab_size", 1, int64_t(limits::kVocabulary));
    c.contextLength = read.countOr("context_length", 2048, INT32_MAX);
    c.normEpsilon = read.positive("attention.layer_norm_rms_epsilon", 1e-5);
    c.ropeBase = read.positive("rope.freq_base", 10000);
    c.ropeDimensions = read.countOr("rope.dimension_count", c.headSize, limits::kWidth);
    const std::string scaling = metadata.stringOr(read.key("rope.scaling.type"), "none");
    if (scaling == "linear")
        c.ropeScale = 1 / read.positive("rope.scaling.factor", 1);
    else if (scaling != "none" && scaling != "")
        refuse(metadata, fmt::format("\"{}\" scaling of positions", printable(scaling)));
    else if (metadata.has(read.key("rope.scale_linear")))
        c.ropeScale = 1 / read.positive("rope.scale_linear", 1);
    checkHeads(metadata, c);
    return c;
}

ModelConfig readHuggingFaceConfig(const Metadata& metadata, const char* name) {
    const Reader read{metadata, ""};
    ModelConfig c;
    c.architecture = name;
    c.ropeStyle = RopeStyle::Halves;
    if (const std::string act = metadata.stringOr("hidden_act", "silu"); act != "silu")
        refuse(metadata, fmt::format("the activation \"{}\"", printable(act)));
    c.layers = read.count("num_hidden_layers", limits::kLayers);
    c.width = read.count("hidden_size", limits::kWidth);
    c.feedForward = read.count("intermediate_size", limits::kWidth);
    c.heads = read.count("num_attention_heads", limits::kWidth);
    c.kvHeads = read.countOr("num_key_value_heads", c.heads, limits::kWidth);
    c.headSize = read.countOr("head_dim", c.width / c.heads, limits::kWidth);
    c.vocabulary = read.count("vocab_size", int64_t(limits::kVocabulary));
    c.contextLength = read.countOr("max_position_embeddings", 2048, INT32_MAX);
    c.normEpsilon = read.positive("rms_norm_eps", 1e-6);
    c.ropeBase = read.positive("rope_theta", 10000);
    c.ropeDimensions = c.headSize;
    c.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", false);
    checkHeads(metadata, c);

    const std::string scaling = metadata.stringOr(
        "rope_scaling.rope_type", metadata.stringOr("rope_scaling.type", "default"));
    if (scaling == "linear")
        c.ropeScale = 1 / read.positive("rope_scaling.factor", 1);
    else if (scaling == "llama3")
        c.ropeFactors = llama3RopeFactors(
            c, double(read.positive("rope_scaling.factor", 8)),
            double(read.positive("rope_scaling.low_freq_factor", 1)),
            double(read.positive("rope_scaling.high_freq_factor", 4)),
            double(read.positive("rope_scaling.original_max_position_embeddings", 8192)));
    else if (scaling != "default")
        refuse(metadata, fmt::format("\"{}\" scaling of positions", printable(scaling)));
    return c;
}

std::vector<float> llama3RopeFactors(const ModelConfig& config, double factor, double lowFactor,
                                     double highFactor, double originalContext) {
    std::vector<float> factors;
    for (int32_t i = 0; i < config.ropeDimensions / 2; ++i) {
        const double frequency =
            std::pow(double(config.ropeBase), -2.0 * i / config.ropeDimensions);
        const double turns = originalContext * frequency / (2 * std::numbers::pi);
        if (turns > highFactor) {
            factors.push_back(1);
        } else if (turns < lowFactor) {
            factors.push_back(static_cast<float>(factor));
        } else {
            const double smooth = (turns - lowFactor) / (highFactor - lowFactor);
            factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
        }
    }
    return factors;
}

} // namespace nibble
