#include "core/evaluate/sensitivity.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/evaluate/score.h"
#include "core/quant/apply.h"
#include "core/quant/output_error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

namespace nibble {
namespace {

/// Probes from coarse to fine: the first is coarse enough that a loss stands out of the rounding of
/// floats. A matrix that loses more than kMostLoss with it gets a finer one, because loss grows
/// with the square of the error only while it is small.
constexpr std::array kProbeFormats = {"int3_g128", "int4_g128", "int5_g128", "int6_g128"};
constexpr double kMostLoss = 4e-3;
/// What is rounded together: several formats plainly, and a few with a method that takes longer.
struct Whole {
    const char *method, *format;
};
constexpr std::array kWholes = {Whole{"rtn", "int6_g128"}, Whole{"rtn", "int4_g128"},
                                Whole{"rtn", "int3_g128"}, Whole{"gptq", "q2_k"},
                                Whole{"gptq", "iq4_xs"},   Whole{"gptq", "q6_k"}};
/// Experts that stand for all of a layer: those with the most tokens.
constexpr size_t kMostExperts = 8;
constexpr int64_t kErrorRows = 64;
/// Of the base's logits kept.
constexpr uint64_t kLogitBytes = 1ull << 30;

/// The text's windows at the entry of one layer after the other, and what the base makes of them in
/// the end.
class Windows {
public:
    /// Spread over all of the text: its beginning alone may be of one kind.
    Windows(Runner& runner, const EvaluationTokens& text, const SensitivityOptions& options)
        : m_runner(runner), m_context(options.context) {
        const auto context = static_cast<size_t>(options.context);
        const ModelConfig& config = runner.model().config;
        const uint64_t logitBytes = static_cast<uint64_t>(m_context - firstScored() - 1) *
                                    static_cast<uint64_t>(config.vocabulary) * sizeof(float);
        const size_t affordable =
            std::max<size_t>(1, kLogitBytes / std::max<uint64_t>(1, logitBytes));
        const size_t count = std::min(
            {text.tokens.size() / context, affordable, static_cast<size_t>(options.windows)});
        if (count == 0)
            fail(ErrorKind::BadInput,
                 "{} has {} tokens; at least one window of {} is needed. Use a longer text or a "
                 "shorter context.",
                 printable(text.label), text.tokens.size(), options.context);
        const size_t last = text.tokens.size() / context - 1;
        for (size_t i = 0; i < count; ++i) {
            Window& window = m_windows.emplace_back();
            const size_t which = count > 1 ? i * last / (count - 1) : i;
            const auto at = text.tokens.begin() + static_cast<ptrdiff_t>(which * context);
            window.tokens.assign(at, at + static_cast<ptrdiff_t>(context));
            if (text.bos >= 0)
                window.tokens[0] = text.bos;
        }
    }

    size_t count() const { return m_windows.size(); }

    /// The base's logits. The runner has the base's tensors.
    void runBase(const Progress& progress) {
        for (Window& window : m_windows) {
            progress.check();
            forward(window, 0, m_runner.model().config.layers, &window.logits, nullptr, progress);
        }
    }

    /// Takes the hidden values on to the entry of `layer`.
    void advance(int32_t layer, const Progress& progress) {
        for (; m_layer < layer; ++m_layer)
            for (Window& window : m_windows) {
                progress.check();
                std::vector<float> out;
                forward(window, m_layer, m_layer + 1, nullptr, &out, progress);
                window.next = std::move(out);
                if (&window == &m_windows.back())
                    for (Window& each : m_windows)
                        each.hidden = std::move(each.next);
            }
    }

    /// The runner's KLD against the base, when what differs lies in `from` or after it. Its error
    /// is that of tokens, or that of windows where these differ by more than their tokens explain.
    Mean kld(int32_t from, const Progress& progress) {
        const auto vocabulary = static_cast<size_t>(m_runner.model().config.vocabulary);
        std::vector<Scored> all;
        std::vector<float> logits;
        for (const Window& window : m_windows) {
            progress.check();
            forward(window, from, m_runner.model().config.layers, &logits, nullptr, progress);
            const size_t rows = logits.size() / vocabulary, at = all.size();
            all.resize(at + rows);
            parallelFor(rows, 1, [&](size_t begin, size_t end) {
                for (size_t i = begin; i < end; ++i)
                    all[at + i] = score(logits.data() + i * vocabulary,
                                        window.logits.data() + i * vocabulary, vocabulary,
                                        window.tokens[static_cast<size_t>(firstScored()) + i + 1]);
            });
        }
        m_tokens = static_cast<int64_t>(all.size());
        return meanOf(all, [](const Scored& s) { return s.kld; });
    }
    int64_t tokens() const { return m_tokens; }

private:
    struct Window {
        std::vector<TokenId> tokens;
        std::vector<float> hidden, next; ///< [token][width] at the entry of m_layer
        std::vector<float> logits;       ///< the base's, of the scored positions
    };
    int32_t firstScored() const { return m_context / 2; }

    /// Layers [from, to): from the tokens, or from the hidden values at m_layer == from.
    void forward(const Window& window, int32_t from, int32_t to, std::vector<float>* logits,
                 std::vector<float>* hidden, const Progress& progress) {
        Session session = m_runner.newSession();
        std::vector<ForwardRow> rows;
        for (int32_t i = 0; i < m_context; ++i)
            rows.push_back({.session = &session,
                            .token = window.tokens[static_cast<size_t>(i)],
                            .position = -1,
                            .wantLogits = logits && i >= firstScored() && i + 1 < m_context});
        ForwardIo io;
        io.layers = {from, to};
        if (from > 0)
            io.hiddenIn = window.hidden;
        io.hiddenOut = hidden;
        io.logits = logits;
        io.cancel = progress.cancel.get();
        m_runner.forward(rows, io);
    }

    Runner& m_runner;
    int32_t m_context, m_layer = 0;
    int64_t m_tokens = 0;
    std::vector<Window> m_windows;
};

/// At x, on straight lines between points, and level outside them.
double between(std::vector<std::pair<double, double>> points, double x, double without) {
    std::sort(points.begin(), points.end());
    if (points.empty())
        return without;
    if (x <= points.front().first)
        return points.front().second;
    for (size_t i = 1; i < points.size(); ++i)
        if (x <= points[i].first) {
            const auto [low, atLow] = points[i - 1];
            const auto [high, atHigh] = points[i];
            return atLow + (x - low) / (high - low) * (atHigh - atLow);
        }
    return points.back().second;
}
/// Columns for which formats' bits per weight are compared.
constexpr int64_t kUsualCols = 4096;

/// The matrices in the order in which their first layer comes; the head's is the last one.
std::vector<TensorKey> matrices(const Model& model) {
    std::vector<TensorKey> keys;
    for (const TensorKey key : model.keys())
        if (isMatrix(key.role) && key.expert <= 0)
            keys.push_back(key);
    return keys;
}
int32_t firstLayer(const Model& model, TensorKey key) {
    if (key.layer >= 0)
        return key.layer;
    return key.role == Role::TokenEmbedding ? 0 : model.config.layers - 1;
}

/// Rounds one matrix at a time in a runner that otherwise has the base's.
class Probing {
public:
    Probing(Runner& runner, const std::shared_ptr<const Model>& model,
            std::shared_ptr<const Calibration> calibration)
        : m_runner(runner), m_model(model), m_calibration(std::move(calibration)) {}

    TensorSensitivity measure(TensorKey key, Windows& windows, const Progress& progress) {
        TensorSensitivity found{.key = key};
        std::vector<Probe> probes;
        for (const char* format : kProbeFormats) {
            probes.push_back(probe(key, {.match = "*", .format = format}, windows, progress));
            if (probes.back().kld.value <= kMostLoss)
                break;
        }
        const Probe& fine = probes.back();
        found.relativeError = fine.kld.value > 0 ? fine.kld.error / fine.kld.value : 1;
        if (key.role == Role::TokenEmbedding && m_model->headKey() == key)
            found.lookupWeight = lookupWeight(
                fine,
                probe(key,
                      {.match = "*", .format = kProbeFormats[probes.size() - 1], .method = "gptq"},
                      windows, progress));
        for (auto each = probes.rbegin(); each != probes.rend(); ++each)
            found.points.push_back({found.errorOf(each->error), each->kld.value});
        for (const TensorKey each : measuredWith(*m_model, key))
            m_runner.setTensor(each, m_model->load(each));
        return found;
    }

    /// All matrices but the embedding and the head, which outweigh the others in small models.
    Together together(const Whole& whole, const Sensitivities& known, Windows& windows,
                      const Progress& progress) {
        Recipe recipe;
        recipe.rules.push_back({.match = "blk.*", .format = whole.format, .method = whole.method});
        Quantizer quantizer(*m_model, recipe, m_calibration);
        double sum = 0;
        for (const TensorSensitivity& tensor : known.tensors) {
            if (tensor.key.layer < 0)
                continue;
            for (const TensorKey each : measuredWith(*m_model, tensor.key))
                m_runner.setTensor(each, quantizer.tensor(each, progress));
            sum += tensor.kld(tensor.errorOf(
                errorTogether(quantizer, *m_model, recipe, *m_calibration, tensor.key, progress)));
        }
        const double kld = windows.kld(0, progress).value;
        for (const TensorSensitivity& tensor : known.tensors)
            for (const TensorKey each : measuredWith(*m_model, tensor.key))
                m_runner.setTensor(each, m_model->load(each));
        return {whole.method, whole.format, sum, kld};
    }

private:
    struct Probe {
        Mean kld;
        OutputError error;
    };
    Probe probe(TensorKey key, RecipeRule rule, Windows& windows, const Progress& progress) {
        Recipe recipe;
        recipe.rules.push_back(std::move(rule));
        Quantizer quantizer(*m_model, recipe, m_calibration);
        for (const TensorKey each : measuredWith(*m_model, key))
            m_runner.setTensor(each, quantizer.tensor(each, progress));
        return {windows.kld(firstLayer(*m_model, key), progress),
                errorTogether(quantizer, *m_model, recipe, *m_calibration, key, progress)};
    }

    /// Two unknowns, what the product's and the look-up's error cost, take two probes in which they
    /// stand in different proportions: error feedback favours the product. Neither is negative.
    static double lookupWeight(const Probe& plain, const Probe& fed) {
        const double determinant =
            plain.error.product * fed.error.lookup - plain.error.lookup * fed.error.product;
        if (determinant <= 0)
            return 1;
        const double product =
            std::max(0.0, plain.kld.value * fed.error.lookup - plain.error.lookup * fed.kld.value);
        const double lookup = std::max(0.0, plain.error.product * fed.kld.value -
                                                plain.kld.value * fed.error.product);
        constexpr double kMost = 100;
        return product * kMost > lookup ? lookup / product : kMost;
    }

    Runner& m_runner;
    std::shared_ptr<const Model> m_model;
    std::shared_ptr<const Calibration> m_calibration;
};

} // namespace

TensorKey measuredAs(TensorKey key) {
    return {key.role, key.layer, std::min(key.expert, 0)};
}

std::vector<TensorKey> measuredWith(const Model& model, TensorKey key) {
    std::vector<TensorKey> keys;
    for (int32_t expert = 0; key.expert >= 0 && expert < model.config.experts; ++expert)
        keys.push_back({key.role, key.layer, expert});
    if (keys.empty())
        keys.push_back(key);
    return keys;
}

OutputError errorTogether(Quantizer& quantizer, const Model& model, const Recipe& recipe,
                          const Calibration& calibration, TensorKey key, const Progress& progress) {
    std::vector<TensorKey> keys = measuredWith(model, key);
    const auto tokensOf = [&](TensorKey each) {
        const InputStatistics* seen = calibration.find(each);
        return seen ? seen->tokens : 0;
    };
    if (keys.size() > 1) { // those that no token chose say nothing
        std::ranges::stable_sort(keys, std::greater(), tokensOf);
        keys.resize(std::min(keys.size(), kMostExperts));
        while (keys.size() > 1 && tokensOf(keys.back()) == 0)
            keys.pop_back();
    }
    OutputError sum;
    double tokens = 0;
    for (const TensorKey each : keys) {
        const double weight = keys.size() > 1 ? static_cast<double>(tokensOf(each)) : 1;
        const OutputError error =
            outputError(quantizer, model, recipe, calibration, each, kErrorRows, progress);
        sum.product += weight * error.product;
        sum.lookup += weight * error.lookup;
        tokens += weight;
    }
    return {sum.product / tokens, sum.lookup / tokens};
}

double TensorSensitivity::kld(double error) const {
    if (error <= points.front().error || points.size() == 1)
        return points.front().error > 0 ? points.front().kld * error / points.front().error : 0;
    if (error >= points.back().error)
        return points.back().kld * error / points.back().error;
    size_t i = 1;
    while (points[i].error < error)
        ++i;
    const Point &low = points[i - 1], &high = points[i];
    if (low.kld <= 0 || high.kld <= 0 || low.error <= 0 || high.error <= low.error)
        return high.kld;
    const double at = std::log(error / low.error) / std::log(high.error / low.error);
    return low.kld * std::pow(high.kld / low.kld, at);
}

const TensorSensitivity* Sensitivities::find(TensorKey key) const {
    const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const TensorSensitivity& t) {
        return t.key.role == key.role && t.key.layer == key.layer &&
               (t.key.expert < 0) == (key.expert < 0);
    });
    return at == tensors.end() ? nullptr : &*at;
}

double Sensitivities::correction(std::string_view method, const Format& format,
                                 double predicted) const {
    const auto ratio = [](const Together& at) { return at.measured / at.predicted; };
    const auto usable = [](const Together& at) { return at.predicted > 0 && at.measured > 0; };
    // Ratios of plain rounding at ascending losses, on straight lines over the logarithm of loss.
    const auto plain = [&](double loss) {
        std::vector<std::pair<double, double>> points;
        for (const Together& at : together)
            if (at.method == "rtn" && usable(at))
                points.emplace_back(std::log(at.predicted), ratio(at));
        return between(std::move(points), std::log(std::max(loss, 1e-300)), 1);
    };
    std::vector<std::pair<double, double>> shares;
    for (const Together& at : together)
        if (at.method == method && method != "rtn" && usable(at))
            shares.emplace_back(getFormat(at.format).bitsPerWeight(kUsualCols),
                                ratio(at) / plain(at.predicted));
    return plain(predicted) * between(std::move(shares), format.bitsPerWeight(kUsualCols), 1);
}

Sensitivities measureSensitivities(const std::shared_ptr<const Model>& model,
                                   const SensitivityTexts& texts,
                                   const CalibrationSource& calibration,
                                   const SensitivityOptions& options, Sensitivities known,
                                   const Progress& progress,
                                   const std::function<void(const Sensitivities&)>& onLayer) {
    const std::vector<TensorKey> keys = matrices(*model);
    if (known.tensors.size() == keys.size() && known.together.size() == kWholes.size())
        return known;
    model->requireRunnable();
    model->requireTokenizer("text cannot be measured");
    RunOptions run;
    run.placement = placeAll(*model, openDevice(options.device));
    run.context = options.context;
    Runner runner(model, run);
    Progress quiet = progress;
    quiet.onReport = {};
    applyRecipe(runner, Recipe{}, nullptr, quiet);

    known.text = texts.tensors.label;
    known.context = options.context;
    const auto total = static_cast<double>(keys.size() + kWholes.size());
    Probing probing(runner, model, calibration(quiet));
    std::optional<Windows> windows;
    const auto read = [&](const EvaluationText& text) {
        windows.reset(); // the other one's logits
        windows.emplace(runner, tokenize(*model->tokenizer, text), options);
        windows->runBase(quiet);
        known.windows = static_cast<int32_t>(windows->count());
    };
    if (known.tensors.size() < keys.size())
        read(texts.tensors);
    for (size_t i = 0; i < keys.size(); ++i) {
        progress.report(static_cast<double>(i), total, "sensitivity");
        if (known.find(keys[i]))
            continue;
        windows->advance(firstLayer(*model, keys[i]), quiet);
        known.tensors.push_back(probing.measure(keys[i], *windows, quiet));
        known.tokens = windows->tokens();
        if (onLayer && (i + 1 == keys.size() || keys[i + 1].layer != keys[i].layer))
            onLayer(known);
    }
    read(texts.wholes);
    for (size_t i = known.together.size(); i < kWholes.size(); ++i) {
        progress.report(static_cast<double>(keys.size() + i), total, "sensitivity");
        known.together.push_back(probing.together(kWholes[i], known, *windows, quiet));
    }
    if (onLayer)
        onLayer(known);
    progress.report(total, total, "sensitivity");
    return known;
}

} // namespace nibble
