#include "app/gui/panels/ledger_panel.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QComboBox>
#include <QGridLayout>
#include <QPainter>
#include <QSignalBlocker>
#include <QSlider>

#include <algorithm>

namespace nibble {
namespace {

constexpr std::array kContexts{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072};
constexpr std::array kKvFormats{KvFormat::F32, KvFormat::F16, KvFormat::Int8, KvFormat::Int4};
/// A model that takes less than this share of the memory is shown on a scale of its own.
constexpr double kSmallShare = 0.1;
constexpr int kFree = 4, kTotal = 5; ///< rows of the table after the parts
constexpr int kKeepSteps = 50;       ///< of the "keep free" handle, up to half of the memory

std::array<uint64_t, 4> parts(const Ledger& ledger) {
    return {ledger.use.weights, ledger.use.kv, ledger.use.scratch, ledger.other};
}

/// 1, 2 or 5 times a power of ten, at least `bytes`.
uint64_t roundUp(uint64_t bytes) {
    uint64_t power = 1;
    while (power * 10 <= bytes)
        power *= 10;
    for (const uint64_t factor : {1, 2, 5, 10})
        if (power * factor >= bytes)
            return power * factor;
    return bytes;
}

/// What a cell of the table says: GB with two decimals where the model takes gigabytes, else each
/// with the unit that suits it.
QString amount(uint64_t bytes, bool inGigabytes) {
    return inGigabytes ? QString::number(static_cast<double>(bytes) / 1e9, 'f', 2)
                       : units::bytes(bytes);
}

} // namespace

/// One stacked bar on the scale of the device's memory; the dashed line is the limit.
class LedgerPanel::Bar : public QWidget {
public:
    explicit Bar(const QString& name, QWidget* parent) : QWidget(parent) {
        setAccessibleName(name);
        setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    }
    /// The bar ends at `scale` bytes. `own`: what other programs hold is left out.
    void set(const std::optional<Ledger>& ledger, uint64_t scale, uint64_t limit, bool own) {
        m_ledger = ledger;
        m_scale = scale;
        m_limit = limit;
        m_own = own;
        update();
    }
    QSize sizeHint() const override { return {Theme::get().px(200), Theme::get().px(16)}; }
    QSize minimumSizeHint() const override { return {Theme::get().px(80), sizeHint().height()}; }

protected:
    void paintEvent(QPaintEvent*) override {
        const Theme& theme = Theme::get();
        QPainter painter(this);
        const QRect frame = rect().adjusted(0, 0, -1, -1);
        painter.fillRect(frame, theme.ink(Ink::Field));
        const auto x = [&](uint64_t bytes) {
            return m_scale == 0 ? 0
                                : static_cast<int>(static_cast<double>(frame.width()) *
                                                   std::min(1.0, static_cast<double>(bytes) /
                                                                     static_cast<double>(m_scale)));
        };
        uint64_t sum = 0;
        if (m_ledger) {
            const auto bytes = parts(*m_ledger);
            for (size_t i = 0; i < (m_own ? bytes.size() - 1 : bytes.size()); ++i) {
                if (bytes[i] == 0)
                    continue;
                const int left = x(sum);
                sum += bytes[i];
                // A part that is there is at least two pixels wide, so that it can be seen, and
                // ends with a gap so that it is told from its neighbour without colour.
                painter.fillRect(QRect(left, 0, std::max(2, x(sum) - left - 1), height()),
                                 colour(i));
            }
        }
        painter.setPen(QPen(theme.ink(Ink::ControlBorder), 0));
        painter.drawRect(frame);
        if (m_limit > 0 && m_limit < m_scale) {
            painter.setPen(QPen(theme.ink(Ink::Text), 1, Qt::DashLine));
            painter.drawLine(x(m_limit), 0, x(m_limit), height());
        }
    }

private:
    static QColor colour(size_t part) {
        constexpr std::array<int, 4> series{0, 2, 3, 4};
        return Theme::get().series(series[part]);
    }
    std::optional<Ledger> m_ledger;
    uint64_t m_scale = 0, m_limit = 0;
    bool m_own = false;
};

/// A square in a series colour in front of a name.
class Swatch : public QWidget {
public:
    Swatch(int series, QWidget* parent) : QWidget(parent), m_series(series) {
        setFixedSize(Theme::get().px(11), Theme::get().px(11));
    }

protected:
    void paintEvent(QPaintEvent*) override {
        QPainter painter(this);
        painter.setRenderHint(QPainter::Antialiasing);
        painter.setPen(Qt::NoPen);
        painter.setBrush(Theme::get().series(m_series));
        painter.drawRoundedRect(rect(), 2, 2);
    }

private:
    int m_series;
};

LedgerPanel::LedgerPanel(Workbench& workbench, QWidget* parent)
    : Panel(tr("Memory of the device"), parent), m_workbench(workbench),
      m_total(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_limit(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_scale(new Label({}, Type::Footnote, Ink::SecondaryText)), m_unit(new Label),
      m_verdict(new Label), m_keepText(new Label({}, Type::Strong)), m_verdictIcon(new Label),
      m_after(new Bar(tr("Memory after Apply"), this)), m_now(new Bar(tr("Memory now"), this)),
      m_context(new QComboBox), m_kv(new Segments(tr("Format of the KV cache"))),
      m_keep(new QSlider(Qt::Horizontal)) {
    header()->addStretch(1);
    header()->addWidget(m_total);

    body()->setSpacing(space::xs());
    auto* captions = new QHBoxLayout;
    captions->addWidget(
        new Label(tr("after Apply, predicted"), Type::Footnote, Ink::SecondaryText));
    captions->addStretch(1);
    captions->addWidget(m_limit);
    body()->addLayout(captions);
    body()->addWidget(m_after);
    auto* below = new QHBoxLayout;
    below->addWidget(new Label(tr("now, measured"), Type::Footnote, Ink::SecondaryText));
    below->addStretch(1);
    below->addWidget(m_scale);
    body()->addLayout(below);
    body()->addWidget(m_now);

    auto* table = new QGridLayout;
    table->setHorizontalSpacing(space::s());
    table->setVerticalSpacing(space::s());
    table->setColumnStretch(1, 1);
    const Qt::Alignment right = Qt::AlignRight | Qt::AlignVCenter;
    m_unit->setType(Type::Secondary);
    m_unit->setInk(Ink::SecondaryText);
    table->addWidget(m_unit, 0, 0, 1, 2);
    table->addWidget(new Label(tr("after"), Type::Secondary, Ink::SecondaryText), 0, 2, right);
    table->addWidget(new Label(tr("now"), Type::Secondary, Ink::SecondaryText), 0, 3, right);
    const QString names[] = {tr("Weights"),        tr("KV cache"), tr("Scratch"),
                             tr("Other programs"), tr("Free"),     tr("Total")};
    constexpr int series[] = {0, 2, 3, 4};
    for (int i = 0; i < static_cast<int>(m_rows.size()); ++i) {
        const Type type = i == kFree ? Type::Strong : Type::Body;
        Row& row = m_rows[static_cast<size_t>(i)];
        row = {new Label(names[i], type), new Label({}, type),
               new Label({}, type, Ink::SecondaryText)};
        if (i < 4)
            table->addWidget(new Swatch(series[i], this), i + 1, 0);
        table->addWidget(row.name, i + 1, 1);
        table->addWidget(row.after, i + 1, 2, right);
        table->addWidget(row.now, i + 1, 3, right);
    }
    body()->addSpacing(space::s());
    body()->addLayout(table);
    body()->addSpacing(space::s());

    auto* controls = new QGridLayout;
    controls->setHorizontalSpacing(space::m());
    controls->setVerticalSpacing(space::s());
    controls->setColumnStretch(1, 1);
    controls->addWidget(new Label(tr("Context"), Type::Body, Ink::SecondaryText), 0, 0);
    m_context->setAccessibleName(tr("Context, tokens"));
    controls->addWidget(m_context, 0, 1, 1, 2);
    controls->addWidget(new Label(tr("KV cache"), Type::Body, Ink::SecondaryText), 1, 0);
    m_kv->setChoices({tr("F32"), tr("F16"), tr("INT8"), tr("INT4")});
    controls->addWidget(m_kv, 1, 1, 1, 2);
    controls->addWidget(new Label(tr("Keep free"), Type::Body, Ink::SecondaryText), 2, 0);
    m_keep->setRange(0, kKeepSteps);
    m_keep->setAccessibleName(tr("Memory to keep free"));
    controls->addWidget(m_keep, 2, 1);
    controls->addWidget(m_keepText, 2, 2);
    body()->addLayout(controls);
    body()->addSpacing(space::s());
    m_verdict->setWordWrap(true);
    auto* verdict = new QHBoxLayout;
    verdict->setSpacing(space::s());
    verdict->addWidget(m_verdictIcon, 0, Qt::AlignTop);
    verdict->addWidget(m_verdict, 1);
    body()->addLayout(verdict);
    body()->addStretch(1);

    connect(m_context, &QComboBox::activated, this,
            [this] { m_workbench.setContext(m_context->currentData().toInt()); });
    connect(m_kv, &Segments::chosen, this, [this](int index) {
        const KvFormat format = kKvFormats[static_cast<size_t>(index)];
        m_workbench.setKv(format, format);
    });
    connect(m_keep, &QSlider::valueChanged, this, [this] {
        refresh();
        emit keepFreeChanged();
    });
    for (auto signal : {&Workbench::ledgerChanged, &Workbench::devicesChanged})
        connect(&m_workbench, signal, this, &LedgerPanel::refresh);
    for (auto signal :
         {&Workbench::modelChanged, &Workbench::optionsChanged, &Workbench::recipeChanged})
        connect(&m_workbench, signal, this, &LedgerPanel::refreshControls);
    connect(&Theme::get(), &Theme::changed, this, &LedgerPanel::refresh);
    refreshControls();
}

uint64_t LedgerPanel::keepFree() const {
    const auto device = m_workbench.device();
    const uint64_t memory = device ? device->memoryBytes : 0;
    return memory / 2 / kKeepSteps * static_cast<uint64_t>(m_keep->value());
}

void LedgerPanel::refreshControls() {
    const QSignalBlocker quiet(m_context);
    const int wanted = m_workbench.options().context;
    const auto model = m_workbench.model();
    const int longest = model ? model->config.contextLength : kContexts.back();
    m_context->clear();
    std::vector<int> choices;
    for (const int tokens : kContexts)
        if (tokens <= longest)
            choices.push_back(tokens);
    for (const int tokens : {wanted, longest})
        if (tokens > 0 && std::find(choices.begin(), choices.end(), tokens) == choices.end())
            choices.push_back(tokens);
    std::sort(choices.begin(), choices.end());
    for (const int tokens : choices)
        m_context->addItem(tr("%1 tokens").arg(units::count(tokens)), tokens);
    m_context->setCurrentIndex(m_context->findData(wanted));
    const auto format =
        std::find(kKvFormats.begin(), kKvFormats.end(), m_workbench.recipe().kFormat);
    if (format != kKvFormats.end())
        m_kv->setCurrent(static_cast<int>(format - kKvFormats.begin()));
    refresh();
}

void LedgerPanel::refreshBars(uint64_t budget, uint64_t limit) {
    const auto& after = m_workbench.predictedLedger();
    const auto& now = m_workbench.usedLedger();
    const uint64_t most =
        std::max(after ? after->use.total() : 0, now ? now->use.total() : uint64_t(0));
    const bool own =
        most > 0 && static_cast<double>(most) < kSmallShare * static_cast<double>(budget);
    const uint64_t scale = own ? roundUp(most + most / 20) : budget;
    m_after->set(after, scale, limit, own);
    m_now->set(now, scale, limit, own);
    m_scale->setText(!scale ? QString()
                     : own  ? tr("bars end at %1").arg(units::bytes(scale))
                            : tr("bars end at %1, all there is").arg(units::bytes(scale)));
    const auto describe = [](Bar* bar, const std::optional<Ledger>& ledger) {
        bar->setAccessibleDescription(
            ledger ? tr("Weights %1, KV cache %2, scratch %3, other programs %4, free %5")
                         .arg(units::bytes(ledger->use.weights), units::bytes(ledger->use.kv),
                              units::bytes(ledger->use.scratch), units::bytes(ledger->other),
                              units::bytes(ledger->free()))
                   : tr("nothing loaded"));
        bar->setToolTip(bar->accessibleDescription());
    };
    describe(m_after, after);
    describe(m_now, now);
}

void LedgerPanel::refreshVerdict(uint64_t keep) {
    const auto& after = m_workbench.predictedLedger();
    const bool fits = after && after->fits(keep);
    m_verdictIcon->setPixmap(
        Theme::get().pixmap(fits ? QStringLiteral("check") : QStringLiteral("cross"),
                            fits ? Ink::Good : Ink::Bad, Theme::get().px(16), devicePixelRatioF()));
    m_verdictIcon->setVisible(after.has_value());
    m_verdict->setInk(!after ? Ink::SecondaryText : fits ? Ink::Good : Ink::Bad);
    if (!after)
        m_verdict->setText(tr("Open a model to see what it needs."));
    else if (fits && keep)
        m_verdict->setText(tr("Fits. %1 stay free, you asked for %2.")
                               .arg(units::bytes(after->free()), units::bytes(keep)));
    else if (fits)
        m_verdict->setText(tr("Fits, %1 stay free.").arg(units::bytes(after->free())));
    else if (const auto device = m_workbench.device();
             device && device->kind != "cpu" && m_workbench.options().gpuLayers < 0)
        m_verdict->setText(
            (m_workbench.model() && m_workbench.model()->config.experts > 0
                 ? tr("Needs %1 more: the experts that do not fit run on the CPU, which is slower, "
                      "then whole layers. A smaller level or a shorter context avoids it.")
                 : tr("Needs %1 more: the layers that do not fit run on the CPU, which is slower. "
                      "A smaller level or a shorter context avoids it."))
                .arg(units::bytes(after->use.total() + after->other + keep - after->budget)));
    else
        m_verdict->setText(
            tr("Needs %1 more. Choose a smaller level or a shorter context.")
                .arg(units::bytes(after->use.total() + after->other + keep - after->budget)));
}

void LedgerPanel::refresh() {
    const auto& after = m_workbench.predictedLedger();
    const auto& now = m_workbench.usedLedger();
    const auto device = m_workbench.device();
    const uint64_t budget = after ? after->budget : device ? device->memoryBytes : 0;
    const uint64_t keep = keepFree();
    const uint64_t limit = budget > keep ? budget - keep : 0;
    const double gib = static_cast<double>(budget) / (1024.0 * 1024 * 1024);
    title()->setText(device && device->kind == "cpu" ? tr("Memory (RAM)")
                                                     : tr("Memory of the GPU"));
    m_total->setText(budget ? tr("%1 (%2 GiB)").arg(units::bytes(budget), units::number(gib))
                            : QString());
    m_limit->setText(keep ? tr("limit: %1 kept free").arg(units::bytes(keep)) : QString());
    m_keepText->setText(keep ? units::bytes(keep) : tr("nothing"));
    refreshBars(budget, keep ? limit : 0);

    const bool inGigabytes = (after && after->use.weights >= 1'000'000'000) ||
                             (now && now->use.weights >= 1'000'000'000);
    m_unit->setText(inGigabytes ? tr("GB") : QString());
    const auto text = [&](const std::optional<Ledger>& ledger, size_t row) {
        if (!ledger)
            return QStringLiteral("–");
        return amount(row == kFree    ? ledger->free()
                      : row == kTotal ? ledger->budget
                                      : parts(*ledger)[row],
                      inGigabytes);
    };
    for (size_t i = 0; i < m_rows.size(); ++i) {
        m_rows[i].after->setText(text(after, i));
        m_rows[i].now->setText(text(now, i));
    }
    m_rows[1].name->setText(
        tr("KV cache, %1 tokens").arg(units::count(m_workbench.options().context)));
    refreshVerdict(keep);
}

} // namespace nibble
