#include "core/calibrate/calibrate.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/calibrate/cache.h"
#include "core/calibrate/chat_text.h"
#include "core/calibrate/imatrix.h"
#include "core/calibrate/layer_stream.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"

#include <fmt/format.h>
#include <mutex>
#include <set>

namespace nibble {
namespace {

/// Bytes of all second moments of a model.
uint64_t momentBytes(const Model& model) {
    const auto squared = [](int32_t width) { return uint64_t(width) * uint64_t(width) * 4; };
    const ModelConfig& c = model.config;
    return static_cast<uint64_t>(c.layers) *
               (2 * squared(c.width) + squared(c.queryWidth()) + squared(c.feedForward)) +
           squared(c.width);
}

/// Second moments: in memory or on disk since the first pass, or computed again for the layer that
/// was asked for last.
struct MomentSource {
    explicit MomentSource(LayerStream windows) : stream(std::move(windows)) {}
    LayerStream stream;
    std::map<TensorKey, std::shared_ptr<const Moments>> made;
    std::map<TensorKey, StoredMoments> stored;
    std::map<TensorKey, std::shared_ptr<const Moments>> recent; ///< of one layer
    std::set<TensorKey> known;                                  ///< has any of these
    std::mutex mutex = {};

    std::shared_ptr<const Moments> get(TensorKey key, const Progress& progress) {
        const std::lock_guard lock(mutex);
        if (!known.contains(key))
            return nullptr;
        for (const auto* held : {&made, &recent})
            if (const auto at = held->find(key); at != held->end())
                return at->second;
        if (!recent.empty() && recent.begin()->first.layer != key.layer)
            recent.clear();
        if (const auto at = stored.find(key); at != stored.end()) {
            if (auto moments = at->second.read())
                return recent[key] = std::move(moments);
            stored.erase(at); // damaged since it was opened
        }
        compute(key.layer < 0 ? stream.layers() : key.layer, progress);
        const auto at = recent.find(key);
        return at == recent.end() ? nullptr : at->second;
    }

private:
    void compute(int32_t layer, const Progress& progress) {
        recent.clear();
        try {
            if (stream.next() > layer)
                stream.restart();
            while (stream.next() < layer) {
                progress.report(stream.next(), stream.layers(), "calibration");
                stream.run(nullptr, progress);
            }
            Collector collector(stream.tokens(), 0, true);
            stream.run(&collector, progress);
            recent = collector.finish().moments;
        } catch (...) {
            stream.restart(); // a layer half done has changed some windows
            throw;
        }
    }
};

/// All that the result depends on.
std::string identityOf(const Model& model, const EvaluationTokens& tokens,
                       const LayerStream& stream, const CalibrateOptions& options) {
    const ModelConfig& c = model.config;
    // Of the files' content: raised when what is measured changes.
    constexpr int kVersion = 2;
    return fmt::format("{} {} model {} {} {} {} {} text {} {} windows {} of {} samples {}",
                       NIBBLE_VERSION, kVersion, hashName(checkpointHash(*model.checkpoint)),
                       c.normEpsilon, c.rope.base, c.rope.scale, int(c.ropeStyle),
                       hashName(tokens.hash), hashName(stream.hash()), stream.windows(),
                       options.context, options.sampleRows);
}

/// One pass over the layers, of which those that `cache` has are not measured again.
class Pass {
public:
    Pass(MomentSource& source, const CalibrationCache& cache, Calibration& out)
        : m_source(source), m_stream(source.stream), m_cache(cache), m_out(out) {}

    void run(const CalibrateOptions& options, bool moments, const Progress& progress) {
        const int32_t stages = m_stream.layers() + 1;
        m_out.kept = true;
        for (int32_t layer = 0; layer < stages; ++layer) {
            progress.check();
            progress.report(layer, stages, "calibration");
            if (take(m_cache.findLayer(layer, moments)))
                continue;
            m_out.kept = false;
            goTo(layer, progress);
            Collector collector(m_stream.tokens(), options.sampleRows, moments);
            m_stream.run(&collector, progress);
            LayerInputs inputs = collector.finish();
            // What lies on disk need not stay in memory.
            if (!m_cache.storeLayer(layer, inputs) || !take(m_cache.findLayer(layer, moments))) {
                m_out.inputs.merge(inputs.statistics);
                m_source.made.merge(inputs.moments);
            }
            if (layer + 1 < stages)
                m_cache.storeHidden(layer + 1, m_stream.hidden(), m_stream.windows(), progress);
        }
        for (const auto& [key, statistics] : m_out.inputs)
            m_source.known.insert(key);
        m_cache.complete();
        m_stream.restart();
        progress.report(stages, stages, "calibration");
    }

private:
    bool take(std::optional<StoredLayer> stored) {
        if (stored) {
            m_out.inputs.merge(stored->statistics);
            m_source.stored.merge(stored->moments);
        }
        return stored.has_value();
    }

    /// The windows to where `layer` begins: from the rows kept there by a run that was stopped, or
    /// through the layers before it.
    void goTo(int32_t layer, const Progress& progress) {
        if (m_stream.next() == 0 && layer > 0)
            if (auto hidden = m_cache.findHidden(m_stream.hiddenSize());
                hidden && hidden->next > 0 && hidden->next <= layer)
                m_stream.resume(hidden->next, std::move(hidden->rows));
        while (m_stream.next() < layer)
            m_stream.run(nullptr, progress);
    }

    MomentSource& m_source;
    LayerStream& m_stream;
    const CalibrationCache& m_cache;
    Calibration& m_out;
};

bool isChats(const std::filesystem::path& path) {
    return std::filesystem::is_directory(path) || path.extension() == ".chat";
}

/// Error{BadInput} for a model that reads no text.
EvaluationTokens tokensOf(const Model& model, const EvaluationText& text) {
    model.requireRunnable();
    model.requireTokenizer("it cannot be calibrated with a text");
    return tokenize(*model.tokenizer, text);
}

} // namespace

std::shared_ptr<const Calibration> calibrate(const std::shared_ptr<const Model>& model,
                                             const EvaluationText& text,
                                             const CalibrateOptions& options,
                                             const Progress& progress) {
    const EvaluationTokens tokens = tokensOf(*model, text);
    const auto source = std::make_shared<MomentSource>(
        LayerStream(model, tokens, options.context, options.windows));
    const auto cache =
        options.cached ? CalibrationCache::open(identityOf(*model, tokens, source->stream, options))
                       : CalibrationCache();

    auto calibration = std::make_shared<Calibration>();
    calibration->text = tokens.label;
    calibration->textHash = tokens.hash;
    calibration->tokens = source->stream.tokens();
    const bool moments = options.moments && momentBytes(*model) <= options.momentBytes;
    Pass(*source, cache, *calibration).run(options, moments, progress);
    if (options.moments)
        calibration->moments = [source](TensorKey key, const Progress& part) {
            return source->get(inputKey(key), part);
        };
    return calibration;
}

std::shared_ptr<const Calibration> calibrationFromFile(const std::shared_ptr<const Model>& model,
                                                       const std::filesystem::path& file,
                                                       const Progress& progress,
                                                       const CalibrateOptions& options) {
    if (!file.empty() && !isChats(file) && isImatrix(file))
        return readImatrix(*model, file);
    return calibrate(model, calibrationText(*model, file), options, progress);
}

std::string thinness(const Calibration& calibration) {
    constexpr int64_t kEnough = 16 * 512;
    if (calibration.tokens <= 0 || calibration.tokens >= kEnough)
        return {};
    return fmt::format("The calibration rests on only {} tokens of {}; methods that look at data "
                       "do better with {} and more.",
                       calibration.tokens, printable(calibration.text), kEnough);
}

EvaluationText calibrationText(const Model& model, const std::filesystem::path& path) {
    if (path.empty())
        return shippedCalibrationText();
    if (isChats(path))
        return chatText(model, path);
    return evaluationTextFile(path);
}

CalibrationChoice lookAtCalibration(const std::shared_ptr<const Model>& model,
                                    const std::filesystem::path& path) {
    if (!path.empty() && !isChats(path) && isImatrix(path)) {
        readImatrix(*model, path);
        return {path.filename().string(), 0};
    }
    const EvaluationTokens tokens = tokensOf(*model, calibrationText(*model, path));
    const CalibrateOptions usual;
    const LayerStream windows(model, tokens, usual.context, usual.windows);
    return {tokens.label, static_cast<int64_t>(tokens.tokens.size())};
}

std::shared_ptr<const Calibration> sharedCalibration(const std::shared_ptr<const Model>& model,
                                                     const Progress& progress,
                                                     const std::filesystem::path& file,
                                                     const CalibrateOptions& options) {
    struct Shared {
        std::filesystem::path file;
        std::shared_ptr<const Calibration> calibration;
    };
    // Held while calibrating: who asks meanwhile waits for the same result. Recursive, for what is
    // more urgent may run in between on the same thread (Progress::onCheck), and ask as well.
    static std::recursive_mutex mutex;
    const std::lock_guard lock(mutex);
    const auto* shared = static_cast<const Shared*>(model->workedOut.get());
    if (shared && shared->file == file)
        return shared->calibration;
    model->workedOut.reset(); // before the next is made: it may be large
    auto made = std::make_shared<Shared>();
    made->file = file;
    made->calibration = calibrationFromFile(model, file, progress, options);
    model->workedOut = made;
    return made->calibration;
}

std::shared_ptr<const Calibration> calibrationFor(const std::shared_ptr<const Model>& model,
                                                  const Recipe& recipe, const Progress& progress,
                                                  const std::filesystem::path& file) {
    return neededCalibration(*model, recipe) == Needs::Nothing
               ? nullptr
               : sharedCalibration(model, progress, file);
}

} // namespace nibble
