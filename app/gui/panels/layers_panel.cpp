#include "app/gui/panels/layers_panel.h"

#include "app/gui/panels/tensor_actions.h"
#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include "core/model/names.h"

#include <QHBoxLayout>
#include <QMenu>
#include <QPainter>
#include <QShortcut>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace nibble {
namespace {

struct MetricRow {
    const char* title;
    const char* about;
    LayerStrip::Map map;
    bool logarithmic;
};
/// In the order of LayersPanel::Metric.
constexpr std::array<MetricRow, 5> kMetrics{{
    {QT_TRANSLATE_NOOP("LayersPanel", "ΔKLD"),
     QT_TRANSLATE_NOOP("LayersPanel", "what the tensor adds to the KLD, predicted, ×10⁻³"),
     LayerStrip::Map::Loss, true},
    {QT_TRANSLATE_NOOP("LayersPanel", "Error"),
     QT_TRANSLATE_NOOP("LayersPanel", "relative error of the tensor's values"),
     LayerStrip::Map::Loss, true},
    {QT_TRANSLATE_NOOP("LayersPanel", "SQNR"),
     QT_TRANSLATE_NOOP("LayersPanel", "signal to quantization noise, dB"), LayerStrip::Map::Loss,
     false},
    {QT_TRANSLATE_NOOP("LayersPanel", "Bits"), QT_TRANSLATE_NOOP("LayersPanel", "bits per weight"),
     LayerStrip::Map::Neutral, false},
    {QT_TRANSLATE_NOOP("LayersPanel", "Size"), QT_TRANSLATE_NOOP("LayersPanel", "size, MB"),
     LayerStrip::Map::Neutral, true},
}};
const MetricRow& row(LayersPanel::Metric metric) {
    return kMetrics[static_cast<size_t>(metric)];
}

} // namespace

/// Colours from low to high with their values, and the hatch of what is not measured.
class LayersPanel::Legend : public QWidget {
public:
    explicit Legend(LayerStrip* strip, QWidget* parent) : QWidget(parent), m_strip(strip) {
        setSizePolicy(QSizePolicy::Preferred, QSizePolicy::Fixed);
    }
    void set(const QString& about, double low, double high, bool logarithmic, bool hatch) {
        m_about = about;
        m_low = low;
        m_high = high;
        m_logarithmic = logarithmic;
        m_hatch = hatch;
        updateGeometry();
        update();
    }
    QSize sizeHint() const override {
        const QFontMetrics text(Theme::get().font(Type::Footnote));
        int width =
            text.horizontalAdvance(m_about + lowText() + highText()) + bar() + 4 * space::s();
        if (m_hatch)
            width += text.horizontalAdvance(tr("not measured")) + patch() + 3 * space::s();
        return {width, Theme::get().px(20)};
    }
    QSize minimumSizeHint() const override { return {0, sizeHint().height()}; }

protected:
    void paintEvent(QPaintEvent*) override {
        const Theme& theme = Theme::get();
        QPainter painter(this);
        painter.setFont(theme.font(Type::Footnote));
        const QFontMetrics text(painter.font());
        int right = width();
        const auto write = [&](const QString& words) {
            right -= text.horizontalAdvance(words);
            painter.setPen(theme.ink(Ink::SecondaryText));
            painter.drawText(QRect(right, 0, width(), height()), Qt::AlignVCenter, words);
            right -= space::s();
        };
        const QRect box(0, height() / 2 - theme.px(5), patch(), theme.px(10));
        if (m_hatch) {
            write(tr("not measured"));
            const QRect hatch(right - patch(), box.y(), patch(), box.height());
            painter.fillRect(hatch, QBrush(theme.ink(Ink::Hatch), Qt::BDiagPattern));
            right = hatch.x() - 2 * space::s();
        }
        if (m_high <= 0)
            return;
        write(highText());
        const QRect ramp(right - bar(), box.y(), bar(), box.height());
        for (int x = 0; x < ramp.width(); ++x) {
            const double t = static_cast<double>(x) / ramp.width();
            const double value =
                m_logarithmic ? m_low * std::pow(m_high / m_low, t) : m_low + (m_high - m_low) * t;
            painter.fillRect(ramp.x() + x, ramp.y(), 1, ramp.height(), m_strip->colour(value));
        }
        painter.setPen(QPen(theme.ink(Ink::Line), 0));
        painter.drawRect(ramp);
        right = ramp.x() - space::s();
        write(lowText());
        if (right - text.horizontalAdvance(m_about) >= 0)
            write(m_about);
    }

private:
    static int bar() { return Theme::get().px(130); }
    static int patch() { return Theme::get().px(20); }
    QString lowText() const { return units::number(m_low, 2); }
    QString highText() const { return units::number(m_high, 2); }

    LayerStrip* m_strip;
    QString m_about;
    double m_low = 0, m_high = 0;
    bool m_logarithmic = false, m_hatch = false;
};

LayersPanel::LayersPanel(Workbench& workbench, QWidget* parent)
    : Panel(tr("Layers"), parent), m_workbench(workbench),
      m_segments(new Segments(tr("Colour by"), this)), m_strip(new LayerStrip(this)),
      m_selected(new ElidedLabel({}, Type::Strong)),
      m_facts(new ElidedLabel({}, Type::Secondary, Ink::SecondaryText)),
      m_setFormat(makeButton(tr("Set format"), ButtonKind::Plain)),
      m_inspect(makeButton(tr("Inspect"), ButtonKind::Plain, QStringLiteral("inspect"))),
      m_key(new ElidedLabel({}, Type::Footnote, Ink::SecondaryText)) {
    m_legend = new Legend(m_strip, this);
    QStringList titles;
    for (const MetricRow& metric : kMetrics)
        titles << tr(metric.title);
    m_segments->setChoices(titles);
    header()->addWidget(m_segments);
    header()->addStretch(1);
    header()->addWidget(m_legend);
    body()->addWidget(m_strip);

    m_foot = new QWidget;
    auto* foot = new QHBoxLayout(m_foot);
    foot->setContentsMargins(0, 0, 0, 0);
    foot->setSpacing(space::m());
    foot->addWidget(m_selected);
    foot->addWidget(m_facts);
    foot->addWidget(m_setFormat);
    foot->addWidget(m_inspect);
    m_key->setAlignment(Qt::AlignRight | Qt::AlignVCenter);
    foot->addWidget(m_key, 1);
    body()->addWidget(m_foot);
    auto* menu = new QMenu(m_setFormat);
    m_setFormat->setMenu(menu);
    connect(menu, &QMenu::aboutToShow, this, [this, menu] {
        menu->clear();
        addFormatActions(menu, m_workbench, m_strip->marked());
    });

    m_strip->setCells([this](TensorKey key) { return cell(key); });
    connect(m_segments, &Segments::chosen, this,
            [this](int index) { setMetric(static_cast<Metric>(index)); });
    connect(m_strip, &LayerStrip::selected, &m_workbench, &Workbench::setSelection);
    connect(m_strip, &LayerStrip::activated, this, &LayersPanel::inspect);
    connect(m_strip, &LayerStrip::menuRequested, this, [this](TensorKey key, const QPoint& at) {
        QMenu* actions = popupMenu();
        addTensorActions(actions, m_workbench, m_strip->marked());
        actions->addSeparator();
        actions->addAction(tr("&Inspect"), this, [this, key] { emit inspect(key); });
        actions->popup(at);
    });
    connect(m_strip, &LayerStrip::asked, this, &LayersPanel::answer);
    connect(m_strip, &LayerStrip::markedChanged, this, &LayersPanel::refreshFoot);
    connect(m_inspect, &QPushButton::clicked, this, [this] {
        if (const auto key = m_workbench.selection())
            emit inspect(*key);
    });
    connect(&m_workbench, &Workbench::modelChanged, this, &LayersPanel::rebuildGrid);
    for (auto signal :
         {&Workbench::recipeChanged, &Workbench::selectionChanged, &Workbench::tensorErrorsChanged,
          &Workbench::predictionsChanged, &Workbench::locksChanged})
        connect(&m_workbench, signal, this, &LayersPanel::refresh);
    rebuildGrid();
}

void LayersPanel::rebuildGrid() {
    const auto model = m_workbench.model();
    std::vector<TensorKey> extras;
    m_roles.clear();
    if (model) {
        for (const TensorKey key : model->keys()) {
            if (!isMatrix(key.role))
                continue;
            if (key.layer < 0)
                extras.push_back(key);
            else if (std::find(m_roles.begin(), m_roles.end(), key.role) == m_roles.end())
                m_roles.push_back(key.role);
        }
        std::sort(m_roles.begin(), m_roles.end());
    }
    m_strip->setGrid(model ? model->config.layers : 0, m_roles, std::move(extras));
    refresh();
}

void LayersPanel::setMetric(Metric metric) {
    m_metric = metric;
    m_segments->setCurrent(static_cast<int>(metric));
    refresh();
}

std::optional<double> LayersPanel::value(TensorKey key) const {
    const auto choice = m_workbench.choice(key);
    const auto model = m_workbench.model();
    if (!choice || !model || !choice->format)
        return {};
    if (m_metric == Metric::Bits || m_metric == Metric::Size) {
        const TensorInfo* info = model->find(key);
        if (!info)
            return {};
        const double bits = choice->format->bitsPerWeight(info->cols());
        return m_metric == Metric::Bits ? bits : bits * static_cast<double>(info->values()) / 8e6;
    }
    if (m_metric == Metric::Loss) {
        const auto loss = m_workbench.tensorLoss(key);
        return loss ? std::optional(loss->kld * 1e3) : std::nullopt;
    }
    const TensorError* error = m_workbench.tensorError(key);
    if (!error)
        return {};
    return m_metric == Metric::Error ? error->relativeError : error->sqnr;
}

void LayersPanel::refresh() {
    const MetricRow& metric = row(m_metric);
    double low = 1e300, high = 0;
    bool missing = false;
    if (const auto model = m_workbench.model()) {
        for (const TensorKey key : model->keys()) {
            if (!isMatrix(key.role))
                continue;
            const auto v = value(key);
            missing = missing || !v;
            // The scale is that of the blocks, so that an embedding of 8 bits does not flatten it.
            if (!v || !std::isfinite(*v) || *v <= 0 || key.layer < 0)
                continue;
            low = std::min(low, *v);
            high = std::max(high, *v);
        }
    }
    if (high <= 0 || low > high)
        low = high = 0;
    if (m_metric == Metric::Sqnr) // more decibels are better: turn the map round
        m_strip->setScale(metric.map, high, low == high ? low - 1 : low, false);
    else
        m_strip->setScale(metric.map, low, high, metric.logarithmic && low > 0);
    m_legend->set(tr(metric.about), m_metric == Metric::Sqnr ? high : low,
                  m_metric == Metric::Sqnr ? low : high, metric.logarithmic && low > 0, missing);
    m_strip->setSelection(m_workbench.selection());
    refreshFoot();
    m_strip->viewport()->update();
}

void LayersPanel::refreshFoot() {
    const auto key = m_workbench.selection();
    const auto marked = m_strip->marked();
    m_setFormat->setEnabled(key && isMatrix(key->role));
    m_inspect->setEnabled(key.has_value());
    m_selected->setFullText(marked.size() > 1
                                ? tr("%n tensors", nullptr, static_cast<int>(marked.size()))
                            : key ? QString::fromStdString(tensorName(*key))
                                  : tr("No tensor selected"));
    m_facts->setFullText(!key ? tr("Click a cell, or move with the arrow keys.")
                         : marked.size() > 1
                             ? tr("from %1").arg(QString::fromStdString(tensorName(marked.front())))
                             : words(*key));
    m_key->setFullText(glyphKey(), Qt::ElideRight);
}

QMenu* LayersPanel::popupMenu() {
    auto* menu = new QMenu(this);
    menu->setAttribute(Qt::WA_DeleteOnClose);
    return menu;
}

void LayersPanel::answer(LayerStrip::Ask what, const QPoint& at) {
    const auto keys = m_strip->marked();
    if (what == LayerStrip::Ask::Measure)
        return m_workbench.measureTensors(keys);
    if (what == LayerStrip::Ask::Lock)
        return m_workbench.setLocked(
            keys, !std::all_of(keys.begin(), keys.end(),
                               [this](TensorKey key) { return m_workbench.isLocked(key); }));
    QMenu* formats = popupMenu();
    addFormatActions(formats, m_workbench, keys);
    formats->popup(at);
}

/// Only the letters that the strip shows now.
QString LayersPanel::glyphKey() const {
    static const std::map<QChar, QString> meanings{
        {u'N', tr("N nibble")},      {u'I', tr("I INT")},    {u'L', tr("L LLM.int8()")},
        {u'A', tr("A AWQ")},         {u'G', tr("G GPTQ")},   {u'F', tr("F NF")},
        {u'K', tr("K k-quant")},     {u'Q', tr("Q iq")},     {u'H', tr("H HQQ")},
        {u'S', tr("S SmoothQuant")}, {u'1', tr("16 = F16")}, {u'3', tr("32 = F32")}};
    std::set<QChar> seen;
    bool locked = false;
    if (const auto model = m_workbench.model())
        for (const TensorKey key : model->keys())
            if (isMatrix(key.role)) {
                seen.insert(m_workbench.glyph(key).at(0));
                locked = locked || m_workbench.isLocked(key);
            }
    QStringList words;
    for (const auto& [letter, meaning] : meanings)
        if (seen.contains(letter))
            words << meaning;
    if (!seen.empty())
        words << tr("digit: bits");
    if (locked)
        words << tr("cut corner: locked");
    return words.join(QStringLiteral("  ·  "));
}

QString LayersPanel::words(TensorKey key) const {
    const auto choice = m_workbench.choice(key);
    const auto model = m_workbench.model();
    const TensorInfo* info = model ? model->find(key) : nullptr;
    if (!choice || !choice->format || !info)
        return {};
    const double bits = choice->format->bitsPerWeight(info->cols());
    QString text = tr("%1 · %2").arg(
        QString::fromUtf8(choice->format->name),
        units::bytes(static_cast<uint64_t>(bits * static_cast<double>(info->values()) / 8)));
    const auto loss = m_workbench.tensorLoss(key);
    if (loss)
        text += loss->kld > 0 ? tr(" · adds KLD ×10⁻³ ≈ %1")
                                    .arg(units::withError(loss->kld * 1e3, loss->error * 1e3))
                              : tr(" · adds nothing");
    if (const TensorError* error = m_workbench.tensorError(key))
        text += error->relativeError > 0
                    ? tr(" · error %1 · SQNR %2 dB")
                          .arg(units::number(error->relativeError, 2), units::number(error->sqnr))
                    : tr(" · no error");
    else if (!loss)
        text += tr(" · not measured");
    return text;
}

LayerStrip::Cell LayersPanel::cell(TensorKey key) const {
    LayerStrip::Cell out;
    out.glyph = m_workbench.glyph(key);
    auto v = value(key);
    if (v && m_metric == Metric::Sqnr && !std::isfinite(*v))
        v = 1e9; // without any error: the light end of the map
    out.value = v;
    out.locked = m_workbench.isLocked(key);
    out.text = key.layer >= 0
                   ? tr("block %1, %2, %3")
                         .arg(key.layer)
                         .arg(QString::fromUtf8(shortName(key.role)), words(key))
                   : tr("%1, %2").arg(QString::fromUtf8(shortName(key.role)), words(key));
    return out;
}

void LayersPanel::addStepKeys(QWidget* page) {
    for (const int by : {-1, 1}) {
        auto* key =
            new QShortcut(QKeySequence(by < 0 ? Qt::Key_BracketLeft : Qt::Key_BracketRight), page);
        key->setContext(Qt::WidgetWithChildrenShortcut);
        connect(key, &QShortcut::activated, this, [this, by] { stepBlock(by); });
    }
}

void LayersPanel::stepBlock(int by) {
    const auto key = m_workbench.selection();
    const auto model = m_workbench.model();
    if (!key || !model || key->layer < 0)
        return;
    m_workbench.setSelection({key->role, std::clamp(key->layer + by, 0, model->config.layers - 1)});
}

} // namespace nibble
