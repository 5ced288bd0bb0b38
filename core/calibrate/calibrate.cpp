#include "core/calibrate/calibrate.h"

#include "core/base/error.h"
#include "core/calibrate/imatrix.h"
#include "core/calibrate/layer_stream.h"
#include "core/quant/quantizer.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>
#include <cmath>
#include <mutex>

namespace nibble {
namespace {

/// Adds up what a layer's products see.
class Collector final : public Tap {
public:
    Collector(int64_t tokens, int32_t sampleRows, bool moments)
        : m_stride(std::max<int64_t>(1, tokens / std::max(1, sampleRows))), m_moments(moments) {}

    bool wants(const TapSite& site) const override {
        return site.what == TapSite::What::ProductInput;
    }

    void values(const TapSite& site, int32_t rows, int32_t width, const float* values) override {
        const auto [at, isNew] = m_sites.try_emplace(inputKey(site.key), width, m_moments);
        Site& sums = at->second;
        const auto channels = static_cast<size_t>(width);
        for (int32_t row = 0; row < rows; ++row, ++sums.tokens) {
            const float* x = values + static_cast<size_t>(row) * channels;
            for (size_t c = 0; c < channels; ++c) {
                const float magnitude = std::abs(x[c]);
                sums.squares[c] += double(x[c]) * double(x[c]);
                sums.magnitudes[c] += double(magnitude);
                sums.most[c] = std::max(sums.most[c], magnitude);
            }
            // An odd step over the row's place in its window, so that all places are met.
            if (sums.tokens % m_stride == sums.tokens / m_stride * 7 % m_stride)
                sums.samples.insert(sums.samples.end(), x, x + channels);
        }
        if (m_moments)
            sums.moments.add(values, rows);
    }

    /// Moves the results out.
    void finish(std::map<TensorKey, InputStatistics>* statistics,
                std::map<TensorKey, std::shared_ptr<const Moments>>* moments) {
        for (auto& [key, site] : m_sites) {
            if (statistics) {
                InputStatistics& out = (*statistics)[key];
                out.tokens = site.tokens;
                const auto mean = [&](double sum) {
                    return static_cast<float>(sum / static_cast<double>(site.tokens));
                };
                std::transform(site.squares.begin(), site.squares.end(),
                               std::back_inserter(out.meanSquare), mean);
                std::transform(site.magnitudes.begin(), site.magnitudes.end(),
                               std::back_inserter(out.meanAbs), mean);
                out.absMax = std::move(site.most);
                out.samples = std::move(site.samples);
                requireFinite(key, out);
            }
            if (moments && m_moments)
                (*moments)[key] = std::make_shared<const Moments>(site.moments.finish());
        }
        m_sites.clear();
    }

private:
    struct Site {
        Site(int32_t width, bool withMoments)
            : squares(static_cast<size_t>(width)), magnitudes(static_cast<size_t>(width)),
              most(static_cast<size_t>(width)), moments(withMoments ? width : 0) {}
        int64_t tokens = 0;
        std::vector<double> squares, magnitudes;
        std::vector<float> most, samples;
        MomentSum moments;
    };
    static void requireFinite(TensorKey key, const InputStatistics& statistics) {
        for (const float value : statistics.meanSquare)
            if (!std::isfinite(value))
                fail(ErrorKind::BadInput,
                     "In layer {} the base model computes values that are no numbers; its weights "
                     "are damaged: download it again.",
                     key.layer);
    }

    int64_t m_stride;
    bool m_moments;
    std::map<TensorKey, Site> m_sites;
};

/// Bytes of all second moments of a model.
uint64_t momentBytes(const Model& model) {
    const auto squared = [](int32_t width) { return uint64_t(width) * uint64_t(width) * 4; };
    const ModelConfig& c = model.config;
    return static_cast<uint64_t>(c.layers) *
               (2 * squared(c.width) + squared(c.queryWidth()) + squared(c.feedForward)) +
           squared(c.width);
}

/// Second moments: kept from the first pass, or of the last layer that was asked for.
struct MomentSource {
    explicit MomentSource(LayerStream windows) : stream(std::move(windows)) {}
    LayerStream stream;
    std::map<TensorKey, std::shared_ptr<const Moments>> held;
    bool all = false;
    std::mutex mutex = {};

    std::shared_ptr<const Moments> get(TensorKey key, const Progress& progress) {
        const std::lock_guard lock(mutex);
        if (const auto at = held.find(key); at != held.end())
            return at->second;
        if (all)
            return nullptr;
        const int32_t wanted = key.layer < 0 ? stream.layers() : key.layer;
        held.clear();
        try {
            if (stream.next() > wanted)
                stream.restart();
            while (stream.next() < wanted) {
                progress.report(stream.next(), stream.layers(), "calibration");
                stream.run(nullptr, progress);
            }
            Collector collector(stream.tokens(), 0, true);
            stream.run(&collector, progress);
            collector.finish(nullptr, &held);
        } catch (...) {
            stream.restart(); // a layer half done has changed some windows
            held.clear();
            throw;
        }
        const auto at = held.find(key);
        return at == held.end() ? nullptr : at->second;
    }
};

/// Error{BadInput} for a file in another encoding than UTF-8: its characters would be read as
/// something else, and the calibration would be of nonsense.
void requireText(const EvaluationText& text) {
    size_t valid = 0;
    while (valid < text.text.size()) {
        const Utf8Step step = firstCharacter(std::string_view(text.text).substr(valid));
        if (step.kind != Utf8::Character || text.text[valid] == '\0')
            break;
        valid += step.length;
    }
    if (valid != text.text.size())
        fail(ErrorKind::BadInput,
             "{} is not UTF-8 text (byte {} of {}); save it as UTF-8, or give another file.",
             printable(text.label), valid, text.text.size());
}

} // namespace

std::shared_ptr<const Calibration> calibrate(std::shared_ptr<const Model> model,
                                             const EvaluationText& text,
                                             const CalibrateOptions& options,
                                             const Progress& progress) {
    model->requireRunnable();
    if (!model->tokenizer)
        fail(ErrorKind::BadInput,
             "{} has no tokenizer, so it cannot be calibrated with a text. Use a file with a "
             "vocabulary.",
             printable(model->name));
    const EvaluationTokens tokens = tokenize(*model->tokenizer, text);
    const auto source = std::make_shared<MomentSource>(
        LayerStream(model, tokens, options.context, options.windows));
    LayerStream& stream = source->stream;
    source->all = options.moments && momentBytes(*model) <= options.momentBytes;

    auto calibration = std::make_shared<Calibration>();
    calibration->text = tokens.label;
    calibration->textHash = tokens.hash;
    calibration->tokens = stream.tokens();
    const double stages = stream.layers() + 1;
    while (stream.next() <= stream.layers()) {
        progress.check();
        progress.report(stream.next(), stages, "calibration");
        Collector collector(stream.tokens(), options.sampleRows, source->all);
        stream.run(&collector, progress);
        collector.finish(&calibration->inputs, &source->held);
    }
    stream.restart();
    progress.report(stages, stages, "calibration");
    if (options.moments)
        calibration->moments = [source](TensorKey key, const Progress& part) {
            return source->get(inputKey(key), part);
        };
    return calibration;
}

std::shared_ptr<const Calibration> calibrationFromFile(const std::shared_ptr<const Model>& model,
                                                       const std::filesystem::path& file,
                                                       const Progress& progress) {
    if (isImatrix(file))
        return readImatrix(*model, file);
    const EvaluationText text = evaluationTextFile(file);
    requireText(text);
    return calibrate(model, text, {}, progress);
}

std::shared_ptr<const Calibration> sharedCalibration(const std::shared_ptr<const Model>& model,
                                                     const Progress& progress,
                                                     const std::filesystem::path& file) {
    // Held while calibrating: who asks meanwhile waits for the same result.
    static std::mutex mutex;
    static std::weak_ptr<const Model> lastModel;
    static std::filesystem::path lastFile;
    static std::shared_ptr<const Calibration> made;
    const std::lock_guard lock(mutex);
    if (!made || lastModel.lock() != model || lastFile != file) {
        made = file.empty() ? calibrate(model, shippedCalibrationText(), {}, progress)
                            : calibrationFromFile(model, file, progress);
        lastModel = model;
        lastFile = file;
    }
    return made;
}

std::shared_ptr<const Calibration> calibrationFor(const std::shared_ptr<const Model>& model,
                                                  const Recipe& recipe, const Progress& progress,
                                                  const std::filesystem::path& file) {
    return neededCalibration(*model, recipe) == Needs::Nothing
               ? nullptr
               : sharedCalibration(model, progress, file);
}

} // namespace nibble
