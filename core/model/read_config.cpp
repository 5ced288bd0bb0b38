#include "core/base/limits.h"
#include "core/model/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace nibble {

int32_t ConfigReader::checked(const std::string& name, int64_t value, int64_t least,
                              int64_t most) const {
    if (value < least || value > most)
        fail(ErrorKind::BadInput, "{}: \"{}\" is {}, but must lie between {} and {}.",
             printable(metadata.source), name, value, least, most);
    return static_cast<int32_t>(value);
}

int32_t ConfigReader::count(const char* name, int64_t most) const {
    const std::string full = key(name);
    if (const auto* each = metadata.findIntegers(full)) {
        for (const int64_t value : *each)
            if (value != each->front())
                throw UnsupportedModel(fmt::format("{}: \"{}\" differs from layer to layer, which "
                                                   "cannot be run yet; the model can be inspected.",
                                                   printable(metadata.source), full));
        if (!each->empty())
            return checked(full, each->front(), 1, most);
    }
    return checked(full, metadata.getInteger(full), 1, most);
}

int32_t ConfigReader::countOr(const char* name, int64_t fallback, int64_t most) const {
    return metadata.has(key(name)) ? count(name, most) : checked(key(name), fallback, 1, most);
}

int32_t ConfigReader::countWhereAny(const char* name, int64_t fallback, int64_t most,
                                    std::vector<bool>& has) const {
    const auto* each = metadata.findIntegers(key(name));
    if (!each || each->empty() || std::ranges::find(*each, 0) == each->end())
        return countOr(name, fallback, most);
    const int64_t largest = std::ranges::max(*each);
    for (const int64_t value : *each) {
        if (value != 0 && value != largest)
            refuse("layers with different numbers of key and value heads");
        has.push_back(value != 0);
    }
    return checked(key(name), largest, 1, most);
}

int32_t ConfigReader::countOrNone(const char* name, int64_t most) const {
    return metadata.integerOr(key(name), 0) == 0 ? 0 : count(name, most);
}

float ConfigReader::positive(const char* name, double fallback) const {
    const double value = metadata.floatOr(key(name), fallback);
    if (!(value > 0) || !std::isfinite(value))
        fail(ErrorKind::BadInput, "{}: \"{}\" is {}, but must be positive.",
             printable(metadata.source), key(name), value);
    return static_cast<float>(value);
}

float ConfigReader::positiveOrNone(const char* name) const {
    return metadata.floatOr(key(name), 0) == 0 ? 0 : positive(name, 1);
}

void ConfigReader::refuse(std::string_view what) const {
    throw UnsupportedModel(fmt::format("\"{}\" uses {}, which cannot be run yet; it can be "
                                       "inspected.",
                                       printable(metadata.source), what));
}

Activation ConfigReader::activation(Activation fallback) const {
    static constexpr std::pair<const char*, Activation> kKnown[] = {
        {"silu", Activation::Silu},
        {"swish", Activation::Silu},
        {"gelu_pytorch_tanh", Activation::GeluTanh},
        {"gelu_new", Activation::GeluTanh},
        {"gelu_fast", Activation::GeluTanh},
        {"gelu", Activation::Gelu},
    };
    const std::string named = metadata.stringOr(
        "hidden_activation",
        metadata.stringOr("hidden_act", metadata.stringOr("activation_function", "")));
    if (named.empty())
        return fallback;
    for (const auto& [name, activation] : kKnown)
        if (named == name)
            return activation;
    refuse(fmt::format("the activation \"{}\"", printable(named)));
}

namespace {

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

void checkExperts(const ConfigReader& read, const ModelConfig& c) {
    if (c.experts > 0 && (c.expertsUsed < 1 || c.expertsUsed > c.experts))
        fail(ErrorKind::BadInput, "{}: {} of {} experts are to be used for a token.",
             printable(read.metadata.source), c.expertsUsed, c.experts);
}

} // namespace

void readExperts(const ConfigReader& read, ModelConfig& config, const char* count) {
    config.experts = read.count(count, limits::kExperts);
    config.expertsUsed = read.count("num_experts_per_tok", limits::kExperts);
    checkExperts(read, config);
    const auto* dense = read.metadata.findIntegers("mlp_only_layers");
    const int32_t step = read.countOr("decoder_sparse_step", 1, INT32_MAX);
    for (int32_t i = 0; i < config.layers; ++i)
        config.perLayer[static_cast<size_t>(i)].experts =
            (i + 1) % step == 0 && !(dense && std::ranges::find(*dense, i) != dense->end());
}

Metadata withRopeSettings(const Metadata& metadata) {
    constexpr std::string_view kNew = "rope_parameters.", kFull = "full_attention.",
                               kWindowed = "sliding_attention.";
    Metadata out = metadata;
    const auto hasOld = metadata.entries.lower_bound("rope_scaling.");
    const bool scaled =
        hasOld != metadata.entries.end() && hasOld->first.starts_with("rope_scaling.");
    for (auto at = metadata.entries.lower_bound(kNew);
         at != metadata.entries.end() && at->first.starts_with(kNew); ++at) {
        std::string_view name = std::string_view(at->first).substr(kNew.size());
        if (name.starts_with(kWindowed)) {
            name.remove_prefix(kWindowed.size());
            if (name == "rope_theta")
                out.entries["rope_local_base_freq"] = at->second;
            else if (name == "rope_type" && metadata.stringOr(at->first, "default") != "default")
                ConfigReader{metadata, ""}.refuse("scaling of positions in its windows");
            continue;
        }
        if (name.starts_with(kFull))
            name.remove_prefix(kFull.size());
        if (name == "rope_theta" || name == "partial_rotary_factor")
            out.entries[std::string(name)] = at->second;
        else if (!scaled)
            out.entries["rope_scaling." + std::string(name)] = at->second;
    }
    return out;
}

void readUpperWindows(const ConfigReader& read, ModelConfig& config) {
    if (!read.metadata.booleanOr("use_sliding_window", false))
        return;
    const int32_t window = read.countOrNone("sliding_window", INT32_MAX);
    if (readLayerTypes(read.metadata, config, window))
        return;
    const int64_t first = read.metadata.integerOr("max_window_layers", config.layers);
    for (int32_t i = 0; i < config.layers; ++i)
        config.perLayer[static_cast<size_t>(i)].window = i >= first ? window : 0;
}

YarnSettings ggufYarn(const ConfigReader& read) {
    YarnSettings yarn;
    yarn.factor = double(read.positive("rope.scaling.factor", 1));
    yarn.originalContext =
        double(read.countOr("rope.scaling.original_context_length",
                            read.countOr("context_length", 2048, INT32_MAX), INT32_MAX));
    yarn.betaFast = double(read.positive("rope.scaling.yarn_beta_fast", 32));
    yarn.betaSlow = double(read.positive("rope.scaling.yarn_beta_slow", 1));
    yarn.magnitude =
        double(read.positive("rope.scaling.attn_factor", 1)) * (1 + 0.1 * std::log(yarn.factor));
    return yarn;
}

ModelConfig readGgufConfig(const Metadata& metadata, const char* name) {
    const ConfigReader read{metadata, std::string(name) + "."};
    ModelConfig c;
    c.architecture = name;
    c.layers = read.count("block_count", limits::kLayers);
    c.width = read.count("embedding_length", limits::kWidth);
    c.heads = read.count("attention.head_count", limits::kWidth);
    std::vector<bool> attends;
    c.kvHeads = read.countWhereAny("attention.head_count_kv", c.heads, limits::kWidth, attends);
    c.headSize = read.countOr("attention.key_length", c.width / c.heads, limits::kWidth);
    if (metadata.integerOr(read.key("attention.value_length"), c.headSize) != c.headSize)
        read.refuse("keys and values of different length");
    c.vocabulary = read.countOr("vocab_size", 1, int64_t(limits::kVocabulary));
    c.contextLength = read.countOr("context_length", 2048, INT32_MAX);
    c.normEpsilon = metadata.has(read.key("attention.layer_norm_epsilon"))
                        ? read.positive("attention.layer_norm_epsilon", 1e-5)
                        : read.positive("attention.layer_norm_rms_epsilon", 1e-5);
    c.experts = read.countOrNone("expert_count", limits::kExperts);
    c.expertsUsed = read.countOrNone("expert_used_count", limits::kExperts);
    c.feedForward = c.experts > 0 ? read.countOr("feed_forward_length", c.width, limits::kWidth)
                                  : read.count("feed_forward_length", limits::kWidth);
    if (c.experts > 0)
        c.expertFeedForward =
            read.countOr("expert_feed_forward_length", c.feedForward, limits::kWidth);
    checkExperts(read, c);
    c.perLayer.resize(static_cast<size_t>(c.layers));
    if (!attends.empty()) {
        c.convolutionTaps = read.countOrNone("shortconv.l_cache", limits::kConvolutionTaps);
        if (c.convolutionTaps == 0 || attends.size() != c.perLayer.size())
            read.refuse("layers without attention that are no short convolutions");
        for (size_t i = 0; i < attends.size(); ++i)
            c.perLayer[i].mixer = attends[i] ? Mixer::Attention : Mixer::Convolution;
    }
    // Families whose files keep one number know themselves which layers have the window.
    if (const auto* windowed = metadata.findBooleans(read.key("attention.sliding_window_pattern"));
        windowed && windowed->size() == c.perLayer.size())
        for (size_t i = 0; i < windowed->size(); ++i)
            c.perLayer[i].window =
                (*windowed)[i] ? read.countOrNone("attention.sliding_window", INT32_MAX) : 0;

    c.rope.base = read.positive("rope.freq_base", 10000);
    c.ropeDimensions = read.countOr("rope.dimension_count", c.headSize, limits::kWidth);
    const std::string scaling = metadata.stringOr(read.key("rope.scaling.type"), "none");
    if (scaling == "linear")
        c.rope.scale = 1 / read.positive("rope.scaling.factor", 1);
    else if (scaling == "yarn")
        applyYarn(c, ggufYarn(read));
    else if (scaling == "longrope")
        c.originalContext =
            read.countOr("rope.scaling.original_context_length", c.contextLength, INT32_MAX);
    else if (scaling != "none" && scaling != "")
        read.refuse(fmt::format("\"{}\" scaling of positions", printable(scaling)));
    else if (metadata.has(read.key("rope.scale_linear")))
        c.rope.scale = 1 / read.positive("rope.scale_linear", 1);
    if (scaling != "yarn")
        c.rope.magnitude = read.positive("rope.scaling.attn_factor", 1);
    checkHeads(metadata, c);
    return c;
}

ModelConfig readHuggingFaceConfig(const Metadata& metadata, const char* name) {
    const ConfigReader read{metadata, ""};
    ModelConfig c;
    c.architecture = name;
    c.ropeStyle = RopeStyle::Halves;
    c.activation = read.activation(Activation::Silu);
    c.layers = read.count("num_hidden_layers", limits::kLayers);
    c.width = read.count("hidden_size", limits::kWidth);
    c.feedForward = read.count("intermediate_size", limits::kWidth);
    c.heads = read.count("num_attention_heads", limits::kWidth);
    c.kvHeads = read.countOr("num_key_value_heads", c.heads, limits::kWidth);
    c.headSize = metadata.integerOr("head_dim", 0) > 0
                     ? read.count("head_dim", limits::kWidth)
                     : read.checked("hidden_size", c.width / c.heads, 1, limits::kWidth);
    c.vocabulary = read.count("vocab_size", int64_t(limits::kVocabulary));
    c.contextLength = read.countOr("max_position_embeddings", 2048, INT32_MAX);
    c.normEpsilon = read.positive("rms_norm_eps", 1e-6);
    c.rope.base = read.positive("rope_theta", 10000);
    // Of each head the first part may turn alone.
    const double turned = metadata.floatOr("partial_rotary_factor", 1);
    if (!(turned > 0 && turned <= 1))
        fail(ErrorKind::BadInput,
             "{}: \"partial_rotary_factor\" is {}, but must lie between 0 and 1.",
             printable(metadata.source), turned);
    c.ropeDimensions = static_cast<int32_t>(double(c.headSize) * turned);
    c.tiedEmbedding = metadata.booleanOr("tie_word_embeddings", false);
    c.perLayer.resize(static_cast<size_t>(c.layers));
    checkHeads(metadata, c);

    const std::string scaling = metadata.stringOr(
        "rope_scaling.rope_type", metadata.stringOr("rope_scaling.type", "default"));
    if (scaling == "linear")
        c.rope.scale = 1 / read.positive("rope_scaling.factor", 1);
    else if (scaling == "llama3")
        c.rope.factors = llama3RopeFactors(
            c, double(read.positive("rope_scaling.factor", 8)),
            double(read.positive("rope_scaling.low_freq_factor", 1)),
            double(read.positive("rope_scaling.high_freq_factor", 4)),
            double(read.positive("rope_scaling.original_max_position_embeddings", 8192)));
    else if (scaling == "yarn")
        applyYarn(c, huggingFaceYarn(read, c));
    else if (scaling == "longrope" || scaling == "su")
        readLongRope(read, c);
    else if (scaling != "default")
        read.refuse(fmt::format("\"{}\" scaling of positions", printable(scaling)));
    return c;
}

} // namespace nibble
