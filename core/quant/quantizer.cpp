#include "core/quant/quantizer.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/files/packings.h"
#include "core/model/names.h"
#include "core/quant/input_scales.h"

#include <algorithm>
#include <cmath>

namespace nibble {

/// Products that share an input, and what makes it.
struct Quantizer::Fold {
    std::vector<TensorKey> consumers;
    std::vector<TensorKey> producers; ///< the first decides whether anything can be folded
};

namespace {

void requireFiniteVector(const Tensor& vector) {
    const std::vector<float> values = decode(vector);
    for (size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
            fail(ErrorKind::BadInput,
                 "Tensor \"{}\" holds {} in row 0, column {}; the model is damaged: download it "
                 "again.",
                 printable(vector.name), values[i], i);
}

/// Channels of an attention output come by query head, rows of the values by key-value head, which
/// several query heads share: their scales must agree, so that the largest is taken.
std::vector<float> ofValueRows(const ModelConfig& config, const std::vector<float>& channels) {
    std::vector<float> rows(static_cast<size_t>(config.kvWidth()), 0.0f);
    const int32_t shared = config.heads / config.kvHeads;
    for (int32_t head = 0; head < config.heads; ++head)
        for (int32_t d = 0; d < config.headSize; ++d) {
            float& row = rows[static_cast<size_t>(head / shared * config.headSize + d)];
            row = std::max(row, channels[static_cast<size_t>(head * config.headSize + d)]);
        }
    return rows;
}
std::vector<float> ofQueryChannels(const ModelConfig& config, const std::vector<float>& rows) {
    std::vector<float> channels(static_cast<size_t>(config.queryWidth()));
    const int32_t shared = config.heads / config.kvHeads;
    for (int32_t head = 0; head < config.heads; ++head)
        for (int32_t d = 0; d < config.headSize; ++d)
            channels[static_cast<size_t>(head * config.headSize + d)] =
                rows[static_cast<size_t>(head / shared * config.headSize + d)];
    return channels;
}

/// Moments of x / s.
Moments scaledMoments(const Moments& moments, const std::vector<float>& scales) {
    Moments out = moments;
    for (int64_t i = 0; i < out.size; ++i)
        for (int64_t j = 0; j < out.size; ++j)
            out.values[static_cast<size_t>(i * out.size + j)] /=
                scales[static_cast<size_t>(i)] * scales[static_cast<size_t>(j)];
    return out;
}

bool contains(const std::vector<TensorKey>& keys, TensorKey key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
}

} // namespace

Quantizer::Quantizer(const Model& model, const Recipe& recipe,
                     std::shared_ptr<const Calibration> calibration,
                     std::shared_ptr<FeedbackCache> feedback)
    : m_model(model), m_recipe(recipe), m_calibration(std::move(calibration)),
      m_feedback(std::move(feedback)) {}

const FeedbackFactor& FeedbackCache::get(const Method& method,
                                         std::shared_ptr<const Moments> moments) {
    if (m_of != moments || m_by != &method) {
        m_of.reset();
        m_factor = {}; // before the next is made: they are large
        m_factor = method.feedback(*moments);
        m_of = std::move(moments);
        m_by = &method;
    }
    return m_factor;
}

const std::vector<float>* Quantizer::scales(const Fold& fold, const Progress& progress) {
    const auto [at, isNew] = m_scales.try_emplace(fold.consumers.front());
    if (isNew) {
        try {
            at->second = makeScales(fold, progress);
        } catch (...) {
            m_scales.erase(at);
            throw;
        }
    }
    return at->second.empty() ? nullptr : &at->second;
}

/// Empty when the recipe does not ask for any, or the input cannot be scaled.
std::vector<float> Quantizer::makeScales(const Fold& fold, const Progress& progress) {
    const Method* method = nullptr;
    FoldInput input;
    std::vector<Tensor> bases;
    for (const TensorKey key : fold.consumers) {
        const TensorChoice choice = m_recipe.choose(m_model, key);
        if (!choice.method || !choice.method->inputScales || !choice.format ||
            choice.format->isFloat() || (method && choice.method != method))
            return {};
        method = choice.method;
        input.activations = choice.activations;
    }
    const TensorKey producer = fold.producers.front();
    if (isMatrix(producer.role)) {
        const Format* stored = m_model.get(producer).format();
        const Format* wanted = m_recipe.choose(m_model, producer).format;
        if ((!wanted || wanted == stored) && !(stored && stored->isFloat()))
            return {}; // stays as it is stored, so that nothing can be multiplied in
    }
    if (!m_calibration)
        fail(ErrorKind::Usage,
             "{} needs to know what flows into \"{}\"; calibrate the model first.", method->title,
             tensorName(fold.consumers.front()));
    const TensorKey site = inputKey(fold.consumers.front());
    if (site.expert >= 0 && !m_calibration->find(site))
        return {}; // an expert that no token of the text chose
    input.statistics = &m_calibration->get(site);
    std::shared_ptr<const Moments> moments;
    if (m_calibration->moments)
        moments = m_calibration->moments(site, progress);
    input.moments = moments.get();
    for (const TensorKey key : fold.consumers)
        bases.push_back(m_model.load(key));
    for (size_t i = 0; i < bases.size(); ++i)
        input.consumers.push_back({&bases[i], m_recipe.choose(m_model, fold.consumers[i]).format});
    std::vector<float> scales = method->inputScales(input, progress);
    if (producer.role == Role::Value)
        scales = ofQueryChannels(m_model.config, ofValueRows(m_model.config, scales));
    return scales;
}

/// What of a layer's products with one input can be made by what lies before them. Routers see the
/// normed input of a mixture as floats, so that nothing is folded there.
std::vector<Quantizer::Fold> Quantizer::foldsOf(TensorKey key) const {
    const int32_t layer = key.layer;
    const ModelConfig& c = m_model.config;
    std::vector<Fold> folds;
    const auto add = [&](std::vector<TensorKey> consumers, std::vector<TensorKey> producers) {
        if (m_model.find(producers.front()))
            folds.push_back({std::move(consumers), std::move(producers)});
    };
    std::vector<TensorKey> first;
    for (const Role role : firstProducts(c.layer(layer).mixer))
        first.push_back({role, layer});
    add(std::move(first), {{Role::AttentionNorm, layer}, {Role::AttentionNormBias, layer}});
    add({{Role::AttentionOutput, layer}}, {{Role::Value, layer}, {Role::ValueBias, layer}});
    if (!c.layer(layer).experts && c.gated)
        add({{Role::Gate, layer}, {Role::Up, layer}},
            {{Role::FeedForwardNorm, layer}, {Role::FeedForwardNormBias, layer}});
    if (!c.layer(layer).experts && !c.gated)
        add({{Role::Up, layer}},
            {{Role::FeedForwardNorm, layer}, {Role::FeedForwardNormBias, layer}});
    // The up projection goes through nothing that is not linear.
    if (c.gated && c.activation != Activation::ClampedSilu) {
        if (key.expert >= 0 || !c.layer(layer).experts)
            add({{Role::Down, layer, key.expert}},
                {{Role::Up, layer, key.expert}, {Role::UpBias, layer, key.expert}});
        add({{Role::SharedDown, layer}}, {{Role::SharedUp, layer}});
    }
    return folds;
}

/// Columns times s of the tensor's own input, rows (or values) over s of the input that it makes.
Tensor Quantizer::folded(Tensor base, const std::vector<float>* columns,
                         const std::vector<float>* rows, TensorKey key) const {
    if (!columns && !rows)
        return base;
    std::vector<float> values = decode(base);
    const auto cols = static_cast<size_t>(base.cols);
    if (columns)
        for (size_t i = 0; i < values.size(); ++i)
            values[i] *= (*columns)[i % cols];
    if (rows) {
        const std::vector<float> own = key.role == Role::Value || key.role == Role::ValueBias
                                           ? ofValueRows(m_model.config, *rows)
                                           : *rows;
        for (size_t i = 0; i < values.size(); ++i)
            values[i] /= own[base.rows == 1 ? i : i / cols];
    }
    return makeFloatTensor(base.name, getFormat("f32"), base.rows, base.cols, values);
}

Quantizer::Scales Quantizer::scalesOf(TensorKey key, const Progress& progress) {
    Scales found;
    if (key.layer < 0)
        return found;
    for (const Fold& fold : foldsOf(key)) {
        if (contains(fold.consumers, key))
            found.columns = scales(fold, progress);
        if (contains(fold.producers, key))
            found.rows = scales(fold, progress);
    }
    return found;
}

Tensor Quantizer::inBaseScale(TensorKey key, const Tensor& made, const Progress& progress) {
    const Scales scales = scalesOf(key, progress);
    if (!scales.columns && !scales.rows)
        return made;
    const auto inverted = [](const std::vector<float>* from) {
        std::vector<float> out;
        if (from)
            for (const float scale : *from)
                out.push_back(1 / scale);
        return out;
    };
    const std::vector<float> columns = inverted(scales.columns), rows = inverted(scales.rows);
    return folded(made, scales.columns ? &columns : nullptr, scales.rows ? &rows : nullptr, key);
}

Tensor Quantizer::tensor(TensorKey key, const Progress& progress) {
    const auto [columns, rows] = scalesOf(key, progress);
    Tensor base = m_model.load(key);
    if (!isMatrix(key.role))
        requireFiniteVector(base);
    const TensorChoice choice = m_recipe.choose(m_model, key);
    const bool kept = !choice.format || choice.format == base.format;
    Tensor out = kept && !columns && !rows
                     ? std::move(base)
                     : made(key, folded(std::move(base), columns, rows, key), columns, progress);
    if (choice.activations == ActivationFormat::Int8Static && !out.format->isFloat() &&
        out.inputScale == 0)
        setInputScale(out, key, columns, progress);
    return out;
}

/// One for all products that share the input, which engines that multiply them as one matrix want.
void Quantizer::setInputScale(Tensor& tensor, TensorKey key, const std::vector<float>* columns,
                              const Progress& progress) {
    constexpr int64_t kTrialRows = 64;
    const TensorKey site = inputKey(key);
    if (const auto found = m_inputScales.find(site); found != m_inputScales.end()) {
        tensor.inputScale = found->second;
        return;
    }
    const InputStatistics* statistics = m_calibration ? m_calibration->find(key) : nullptr;
    if (!statistics || statistics->absMax.empty() || statistics->samples.empty())
        fail(ErrorKind::Usage,
             "The activations int8_static of \"{}\" need one scale for all tokens, and no "
             "calibration says how large they get; calibrate the model with a text.",
             tensorName(key));
    FoldInput input;
    input.statistics = statistics;
    std::vector<Tensor> bases;
    for (const TensorKey other : m_model.keys())
        if (isMatrix(other.role) && inputKey(other) == site)
            bases.push_back(m_model.load(other));
    for (const Tensor& base : bases)
        input.consumers.push_back({&base, base.format});
    progress.check();
    const std::vector<float> ones(columns ? 0 : static_cast<size_t>(statistics->channels()), 1.0f);
    tensor.inputScale = m_inputScales[site] =
        staticStep(ScaleTrial(input, kTrialRows), columns ? *columns : ones);
}

/// What a method is given to make a matrix (or some of its rows), whose scales are already folded
/// in, in the recipe's format.
struct Quantizer::Making {
    const Format* format = nullptr;
    const Method* method = nullptr;
    QuantizeInput input; ///< refers to the others
    std::vector<float> importance, inputMax;
    std::shared_ptr<const Moments> moments;
};

void Quantizer::prepare(Making& making, TensorKey key, const Tensor& base,
                        const std::vector<float>* columns, const Progress& progress) {
    const TensorChoice choice = m_recipe.choose(m_model, key);
    const Method* chosen = choice.method ? choice.method : &methods().front();
    // A table that is only looked up in is no product: no text says which of its columns matter.
    const bool lookedUp = key.role == Role::TokenEmbedding && m_model.headKey() != key;
    const Method& method =
        lookedUp && chosen->needs != Needs::Nothing ? methods().front() : *chosen;
    making.format = choice.format ? choice.format : m_model.get(key).format();
    making.method = &method;
    QuantizeInput& input = making.input;
    input.name = base.name;
    input.rows = base.rows;
    input.cols = base.cols;
    input.values = [&base](int64_t begin, int64_t end, float* out) {
        decodeRows(base, begin, end, out);
    };
    input.outlierThreshold = choice.outlierThreshold;
    if (!m_calibration || making.format->isFloat() || method.needs == Needs::Nothing)
        return;
    if (const InputStatistics* statistics = m_calibration->find(key)) {
        making.importance = statistics->meanSquare;
        making.inputMax = statistics->absMax;
        if (columns) {
            for (size_t i = 0; i < making.importance.size(); ++i)
                making.importance[i] /= (*columns)[i] * (*columns)[i];
            for (size_t i = 0; i < making.inputMax.size(); ++i)
                making.inputMax[i] /= (*columns)[i];
        }
        input.importance = making.importance;
        input.inputMax = making.inputMax;
    }
    // The table of embeddings is also the head when tied, and is calibrated there.
    if (method.needs == Needs::Moments && m_calibration->moments) {
        auto& moments = making.moments;
        moments = m_calibration->moments(key, progress);
        if (moments && columns)
            moments = std::make_shared<const Moments>(scaledMoments(*moments, *columns));
        input.moments = moments.get();
        if (moments && method.feedback)
            input.feedback = &m_feedback->get(method, moments);
        if (input.feedback && input.feedback->grown)
            m_damped[key] = input.feedback->damping;
    }
}

Tensor Quantizer::made(TensorKey key, const Tensor& base, const std::vector<float>* columns,
                       const Progress& progress) {
    const TensorChoice choice = m_recipe.choose(m_model, key);
    if ((choice.format ? choice.format : m_model.get(key).format()) == base.format)
        return base;
    Making making;
    prepare(making, key, base, columns, progress);
    Tensor out = quantize(making.input, *making.format, *making.method, progress);
    out.experts = base.experts;
    return out;
}

bool Quantizer::tensorInParts(TensorKey key, const TakeRows& take, const Progress& progress) {
    // A part's values, codes and stored bytes fit a core's own cache; between two looks at the
    // cancel flag lie some 50 ms of all cores.
    constexpr int64_t kPartValues = 1 << 16, kSlabParts = 64;
    const TensorChoice choice = m_recipe.choose(m_model, key);
    if (!isMatrix(key.role) || !choice.format || choice.format->isFloat() ||
        choice.activations == ActivationFormat::Int8Static)
        return false;
    const auto [columns, rows] = scalesOf(key, progress);
    if (columns || rows)
        return false;
    const Tensor base = m_model.load(key);
    if (choice.format == base.format)
        return false;
    Making making;
    prepare(making, key, base, nullptr, progress);
    if (!making.method->rowByRow)
        return false;
    const int64_t each = std::max<int64_t>(1, kPartValues / std::max<int64_t>(1, base.cols));
    const int64_t parts = (base.rows + each - 1) / each;
    const auto make = [&](int64_t part) {
        QuantizeInput input = making.input;
        input.firstRow = part * each;
        input.rows = std::min(each, base.rows - input.firstRow);
        input.values = [&base, first = input.firstRow](int64_t begin, int64_t end, float* out) {
            decodeRows(base, first + begin, first + end, out);
        };
        take(input.firstRow, quantize(input, *making.format, *making.method));
    };
    for (int64_t first = 0; first < parts; first += kSlabParts) {
        const int64_t slab = std::min(kSlabParts, parts - first);
        parallelFor(static_cast<size_t>(slab), 1, [&](size_t begin, size_t end) {
            // Only looks: check() may run other work, and this is a thread of the pool.
            for (size_t i = begin; i < end && !progress.cancelled(); ++i)
                make(first + static_cast<int64_t>(i));
        });
        progress.check();
        progress.report(static_cast<double>(first + slab), static_cast<double>(parts), base.name);
    }
    return true;
}

Quantizer::RowSample Quantizer::sample(TensorKey key, std::span<const int64_t> rows,
                                       const Progress& progress) {
    const auto [columns, rowScales] = scalesOf(key, progress);
    const Tensor base = gatherRows(m_model.load(key), rows);
    RowSample out;
    out.cols = base.cols;
    out.base = decode(base);
    if (m_recipe.choose(m_model, key).activations == ActivationFormat::Int8Static) {
        Tensor scaled;
        setInputScale(scaled, key, columns, progress);
        out.inputScale = scaled.inputScale;
    }
    if (!columns && !rowScales) {
        out.made = decode(made(key, base, nullptr, progress));
        return out;
    }
    const auto cols = static_cast<size_t>(base.cols);
    std::vector<float> factors(out.base.size(), 1.0f);
    if (columns) {
        out.inputScales = *columns;
        for (size_t i = 0; i < factors.size(); ++i)
            factors[i] *= (*columns)[i % cols];
    }
    if (rowScales) {
        const std::vector<float> own =
            key.role == Role::Value ? ofValueRows(m_model.config, *rowScales) : *rowScales;
        for (size_t i = 0; i < factors.size(); ++i)
            factors[i] /= own[static_cast<size_t>(rows[i / cols])];
    }
    std::vector<float> values(out.base.size());
    for (size_t i = 0; i < values.size(); ++i)
        values[i] = out.base[i] * factors[i];
    out.made =
        decode(made(key, makeFloatTensor(base.name, getFormat("f32"), base.rows, base.cols, values),
                    columns, progress));
    for (size_t i = 0; i < values.size(); ++i)
        out.made[i] /= factors[i];
    return out;
}

Needs neededCalibration(const Model& model, const Recipe& recipe) {
    Needs most = Needs::Nothing;
    for (const TensorKey key : model.keys()) {
        const TensorChoice choice = recipe.choose(model, key);
        if (choice.format && !choice.format->isFloat() && choice.method)
            most = std::max(most, choice.method->needs);
        const TensorInfo& info = model.get(key);
        const Format* format = choice.format ? choice.format : info.format();
        const bool isKnown = !choice.format && info.packed && info.packed->staticActivations;
        if (choice.activations == ActivationFormat::Int8Static && format && !format->isFloat() &&
            !isKnown)
            most = std::max(most, Needs::Statistics);
    }
    return most;
}

} // namespace nibble
