#include "core/evaluate/quality.h"

#include "core/base/hash.h"
#include "core/base/parallel.h"
#include "core/evaluate/layer_errors.h"
#include "core/evaluate/score.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace nibble {
namespace {

/// The value below which a fraction of the sorted values lies, linear between neighbours.
double percentile(const std::vector<double>& sorted, double fraction) {
    if (sorted.empty())
        return 0;
    const double at = fraction * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<size_t>(at);
    const size_t high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

void summarize(QualityReport& report, const std::vector<Scored>& scored) {
    report.tokens = static_cast<int64_t>(scored.size());
    const Mean nll = meanOf(scored, [](const Scored& s) { return s.nll; });
    report.ppl = std::exp(nll.value);
    report.pplError = report.ppl * nll.error;
    if (!report.hasReference)
        return;
    const Mean kld = meanOf(scored, [](const Scored& s) { return s.kld; });
    report.kldMean = kld.value;
    report.kldError = kld.error;
    std::vector<double> sorted(scored.size());
    std::transform(scored.begin(), scored.end(), sorted.begin(),
                   [](const Scored& s) { return s.kld; });
    std::sort(sorted.begin(), sorted.end());
    report.kldMedian = percentile(sorted, 0.5);
    report.kldP99 = percentile(sorted, 0.99);
    report.kldMax = sorted.empty() ? 0 : sorted.back();
    const Mean same = meanOf(scored, [](const Scored& s) { return s.sameTop ? 1.0 : 0.0; });
    report.sameTop = same.value;
    report.sameTopError = same.error;
    const Mean base = meanOf(scored, [](const Scored& s) { return s.baseNll; });
    report.basePpl = std::exp(base.value);
    const Mean ratio = meanOf(scored, [](const Scored& s) { return s.nll - s.baseNll; });
    report.pplRatio = std::exp(ratio.value);
    report.pplRatioError = report.pplRatio * ratio.error;
}

std::string deviceName(const Runner& runner) {
    std::string text;
    const auto add = [&](const Backend& backend) {
        const std::string id = backend.info().id;
        if (text.find(id) == std::string::npos)
            text += (text.empty() ? "" : " + ") + id;
    };
    for (const Placement& placement : runner.options().placement)
        add(*placement.backend);
    if (runner.options().expertBackend)
        add(*runner.options().expertBackend);
    return text;
}

/// One window through one or two runners in chunks of rows; appends a Scored per scored position.
class WindowRun {
public:
    WindowRun(Runner& runner, Runner* base, int32_t context, bool layers, BaseLogits* kept)
        : m_runner(runner), m_base(base), m_kept(layers ? nullptr : kept), m_first(context / 2),
          m_vocabulary(static_cast<size_t>(runner.model().config.vocabulary)), m_layers(layers),
          m_comparer(m_recorder) {
        m_chunk = runner.options().maxRows;
        if (base)
            m_chunk = std::min(m_chunk, base->options().maxRows);
    }

    void run(size_t index, std::span<const TokenId> window, std::vector<Scored>& scored,
             const Progress& progress) {
        Session session = m_runner.newSession();
        Session baseSession = m_base ? m_base->newSession() : Session();
        const std::vector<float>* kept = m_base && m_kept ? m_kept->find(index) : nullptr;
        const auto length = static_cast<int32_t>(window.size());
        size_t done = 0; // scored values of this window
        m_windowLogits.clear();
        for (int32_t from = 0; from < length; from += m_chunk) {
            progress.check();
            const int32_t to = std::min(from + m_chunk, length);
            if (m_base && !kept) {
                forward(*m_base, baseSession, window, from, to, m_baseLogits,
                        m_layers ? &m_recorder : nullptr, progress);
                if (m_kept)
                    m_windowLogits.insert(m_windowLogits.end(), m_baseLogits.begin(),
                                          m_baseLogits.end());
                progress.check();
            }
            forward(m_runner, session, window, from, to, m_logits,
                    m_layers && m_base ? &m_comparer : nullptr, progress);
            const float* base = kept ? kept->data() + done : m_base ? m_baseLogits.data() : nullptr;
            scoreRows(base, scored);
            done += m_targets.size() * m_vocabulary;
        }
        if (m_kept && m_base && !kept)
            m_kept->keep(index, m_windowLogits);
    }
    std::vector<LayerError> layerErrors() const { return m_comparer.errors(); }

private:
    void scoreRows(const float* base, std::vector<Scored>& scored) {
        const size_t at = scored.size();
        scored.resize(at + m_targets.size());
        parallelFor(m_targets.size(), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i)
                scored[at + i] =
                    score(m_logits.data() + i * m_vocabulary,
                          base ? base + i * m_vocabulary : nullptr, m_vocabulary, m_targets[i]);
        });
        for (size_t i = at; i < scored.size(); ++i)
            if (!std::isfinite(scored[i].nll) || !std::isfinite(scored[i].baseNll))
                fail(ErrorKind::BadInput,
                     "{} computes logits that are no numbers; its weights are damaged, or overflow "
                     "in this level.",
                     printable(m_runner.model().name));
    }
    void forward(Runner& runner, Session& session, std::span<const TokenId> window, int32_t from,
                 int32_t to, std::vector<float>& logits, Tap* tap, const Progress& progress) {
        m_rows.clear();
        m_targets.clear();
        for (int32_t i = from; i < to; ++i) {
            const bool wanted = i >= m_first && i + 1 < static_cast<int32_t>(window.size());
            m_rows.push_back({&session, window[static_cast<size_t>(i)], -1, wanted});
            if (wanted)
                m_targets.push_back(window[static_cast<size_t>(i) + 1]);
        }
        ForwardIo io;
        io.logits = &logits;
        io.tap = tap;
        io.cancel = progress.cancel.get();
        runner.forward(m_rows, io);
    }

    Runner& m_runner;
    Runner* m_base;
    BaseLogits* m_kept;
    int32_t m_first, m_chunk = 0;
    size_t m_vocabulary;
    bool m_layers;
    LayerRecorder m_recorder;
    LayerComparer m_comparer;
    std::vector<ForwardRow> m_rows;
    std::vector<TokenId> m_targets;
    std::vector<float> m_logits, m_baseLogits, m_windowLogits;
};

void requireUsable(const Runner& runner, const EvaluateOptions& options, const char* what) {
    if (options.context < 4)
        fail(ErrorKind::Usage, "Windows of {} tokens are too short to score; use at least 4.",
             options.context);
    if (runner.options().context < options.context)
        fail(ErrorKind::Usage,
             "The {} was loaded for {} tokens of context; windows of {} do not fit.", what,
             runner.options().context, options.context);
}

} // namespace

void BaseLogits::keep(size_t window, const std::vector<float>& logits) {
    const uint64_t bytes = logits.size() * sizeof(float);
    // Windows come in order, so that a gap can only follow one that did not fit.
    if (window != m_windows.size() || bytes > m_left)
        return;
    m_left -= bytes;
    m_windows.push_back(logits);
}

QualityReport measureQuality(Runner& runner, Runner* base, const EvaluationText& text,
                             const EvaluateOptions& options, const Progress& progress,
                             const std::function<void(const QualityReport&)>& onPartial) {
    runner.model().requireTokenizer("text cannot be measured");
    const auto& tokenizer = runner.model().tokenizer;
    return measureQuality(runner, base, tokenize(*tokenizer, text), options, progress, onPartial);
}

QualityReport measureQuality(Runner& runner, Runner* base, const EvaluationTokens& tokens,
                             const EvaluateOptions& options, const Progress& progress,
                             const std::function<void(const QualityReport&)>& onPartial,
                             BaseLogits* kept) {
    requireUsable(runner, options, "model");
    if (base)
        requireUsable(*base, options, "base model");
    if (base && base->model().config.vocabulary != runner.model().config.vocabulary)
        fail(ErrorKind::BadInput,
             "The base has {} tokens and the variant {}; they cannot be compared.",
             base->model().config.vocabulary, runner.model().config.vocabulary);
    for (const TokenId token : tokens.tokens)
        if (token < 0 || token >= runner.model().config.vocabulary)
            fail(ErrorKind::BadInput,
                 "The text has token {}, and the model knows {}. Is it another model's tokenizer?",
                 token, runner.model().config.vocabulary);
    const auto context = static_cast<size_t>(options.context);
    size_t windows = tokens.tokens.size() / context;
    if (windows == 0)
        fail(ErrorKind::BadInput,
             "{} has {} tokens; at least one window of {} is needed. Use a longer text or a "
             "shorter context.",
             printable(tokens.label), tokens.tokens.size(), options.context);
    const size_t last = windows - 1;
    if (options.chunks > 0)
        windows = std::min(windows, static_cast<size_t>(options.chunks));

    const auto start = std::chrono::steady_clock::now();
    QualityReport report;
    report.hasReference = base != nullptr;
    report.context = options.context;
    report.text = tokens.label;
    report.textHash = hashName(tokens.hash);
    report.device = deviceName(runner);
    std::vector<Scored> scored;
    WindowRun run(runner, base, options.context, options.layers, kept);
    std::vector<TokenId> window(context);
    for (size_t i = 0; i < windows; ++i) {
        const size_t which = options.spread && windows > 1 ? i * last / (windows - 1) : i;
        std::copy_n(tokens.tokens.begin() + static_cast<std::ptrdiff_t>(which * context), context,
                    window.begin());
        if (tokens.bos >= 0)
            window[0] = tokens.bos;
        run.run(i, window, scored, progress);
        report.windows = static_cast<int32_t>(i + 1);
        summarize(report, scored);
        report.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        progress.report(static_cast<double>(i + 1), static_cast<double>(windows), "windows");
        if (onPartial && i + 1 < windows)
            onPartial(report);
    }
    if (options.layers && base)
        report.layers = run.layerErrors();
    if (base)
        for (const Scored& s : scored)
            report.klds.push_back(static_cast<float>(s.kld));
    return report;
}

std::optional<PairedDifference> pairedDifference(const QualityReport& a, const QualityReport& b) {
    if (a.klds.empty() || a.klds.size() != b.klds.size() || a.textHash != b.textHash ||
        a.context != b.context || a.windows != b.windows)
        return {};
    const size_t windows = static_cast<size_t>(a.windows), each = a.klds.size() / windows;
    std::vector<double> tokens, means;
    for (size_t w = 0; w < windows; ++w) {
        double sum = 0;
        for (size_t i = w * each; i < (w + 1) * each; ++i) {
            tokens.push_back(double(a.klds[i]) - double(b.klds[i]));
            sum += tokens.back();
        }
        means.push_back(sum / static_cast<double>(each));
    }
    const Mean byToken = meanOf(tokens, [](double d) { return d; });
    return PairedDifference{
        byToken.value, std::max(byToken.error, meanOf(means, [](double d) { return d; }).error)};
}

} // namespace nibble
