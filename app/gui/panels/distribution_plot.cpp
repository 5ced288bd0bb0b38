#include "app/gui/panels/distribution_plot.h"

#include "app/gui/theme.h"
#include "app/gui/units.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr double kLogRatio = 30;
constexpr double kCountFloor = 0.7; ///< below one value, so that bins of one still show

void useLogCounts(QCPAxis* axis) {
    axis->setScaleType(QCPAxis::stLogarithmic);
    axis->setTicker(QSharedPointer<QCPAxisTickerLog>(new QCPAxisTickerLog));
    axis->setNumberFormat(QStringLiteral("gb"));
    axis->setNumberPrecision(0);
}

} // namespace

DistributionPlot::DistributionPlot(QWidget* parent)
    : Plot(tr("Distribution of the weights"), parent), m_base(new QCPBars(xAxis, yAxis)),
      m_variant(addGraph()), m_grid(addGraph()) {
    setTitles(tr("weight"), tr("count"));
    useLogCounts(yAxis);
    m_base->setBaseValue(kCountFloor);
    m_base->setAntialiased(false);
    m_variant->setLineStyle(QCPGraph::lsStepCenter);
    m_grid->setLineStyle(QCPGraph::lsImpulse);
    for (int i = 0; i < 2; ++i) {
        m_clip[i] = new QCPItemStraightLine(this);
        m_clipText[i] = new QCPItemText(this);
        m_clipText[i]->position->setTypeY(QCPItemPosition::ptAxisRectRatio);
        m_clipText[i]->setPositionAlignment((i == 0 ? Qt::AlignRight : Qt::AlignLeft) |
                                            Qt::AlignTop);
        m_clipText[i]->setPadding(QMargins(5, 2, 5, 2));
    }
    connect(this, &QCustomPlot::beforeReplot, this, &DistributionPlot::placeClipTexts);
    DistributionPlot::retheme();
    clear();
}

/// Outside the lines, where nothing is drawn over; inside where the margin is too narrow.
void DistributionPlot::placeClipTexts() {
    const QFontMetrics text(Theme::get().font(Type::Footnote));
    const QRect inside = axisRect()->rect();
    for (int i = 0; i < 2; ++i) {
        const double line = xAxis->coordToPixel(m_clip[i]->point1->coords().x());
        const double room = i == 0 ? line - inside.left() : inside.right() - line;
        const bool outside = room > text.horizontalAdvance(m_clipText[i]->text()) + 12;
        m_clipText[i]->setPositionAlignment(((i == 0) == outside ? Qt::AlignRight : Qt::AlignLeft) |
                                            Qt::AlignTop);
        const double x = m_clipText[i]->position->coords().x();
        m_clipText[i]->position->setCoords(x, outside || i == 0 ? 0.01 : 0.08);
    }
}

void DistributionPlot::clear() {
    m_base->data()->clear();
    m_variant->data()->clear();
    m_grid->data()->clear();
    for (int i = 0; i < 2; ++i) {
        m_clip[i]->setVisible(false);
        m_clipText[i]->setVisible(false);
    }
    setEmptyText(tr("Choose a tensor to see its weights."));
    replot(rpQueuedReplot);
}

void DistributionPlot::setDetail(const TensorDetail& detail) {
    clear();
    setEmptyText(QString());
    const size_t bins = detail.baseCounts.size();
    QVector<double> x, base, variant;
    double most = 10;
    for (size_t i = 0; i < bins; ++i) {
        x.append(detail.binStart + (static_cast<double>(i) + 0.5) * detail.binWidth);
        base.append(std::max(detail.baseCounts[i], kCountFloor));
        most = std::max(most, detail.baseCounts[i]);
        if (i < detail.variantCounts.size()) {
            variant.append(std::max(detail.variantCounts[i], kCountFloor));
            most = std::max(most, detail.variantCounts[i]);
        }
    }
    m_base->setWidth(detail.binWidth);
    m_base->setData(x, base, true);
    if (detail.quantized) {
        m_variant->setData(x, variant, true);
        QVector<double> grid(detail.grid.begin(), detail.grid.end());
        m_grid->setData(grid, QVector<double>(grid.size(), most * 3), true);
        const double at[2] = {detail.clipLow, detail.clipHigh};
        const int64_t count[2] = {detail.clippedLow, detail.clippedHigh};
        for (int i = 0; i < 2; ++i) {
            if (detail.grid.empty())
                continue;
            m_clip[i]->point1->setCoords(at[i], 1);
            m_clip[i]->point2->setCoords(at[i], 2);
            m_clipText[i]->position->setCoords(at[i], 0.01);
            m_clipText[i]->setText(tr("beyond: %1").arg(units::count(count[i])));
            m_clip[i]->setVisible(count[i] > 0);
            m_clipText[i]->setVisible(count[i] > 0);
        }
    }
    const double margin = (detail.maximum - detail.minimum) * 0.04 + 1e-30;
    setHome({detail.minimum - margin, detail.maximum + margin}, {kCountFloor, most * 3});
    setFinding(tr("%1: %2 weights between %3 and %4, standard deviation %5.")
                   .arg(QString::fromStdString(detail.name),
                        units::count(detail.rows * detail.cols), units::number(detail.minimum),
                        units::number(detail.maximum), units::number(detail.sigma)));
    setCsv([detail] {
        QString text = QStringLiteral("bin_start,base_count,variant_count\n");
        for (size_t i = 0; i < detail.baseCounts.size(); ++i)
            text +=
                QStringLiteral("%1,%2,%3\n")
                    .arg(detail.binStart + static_cast<double>(i) * detail.binWidth)
                    .arg(detail.baseCounts[i])
                    .arg(i < detail.variantCounts.size() ? QString::number(detail.variantCounts[i])
                                                         : QString());
        return text;
    });
    replot(rpQueuedReplot);
}

void DistributionPlot::retheme() {
    Plot::retheme();
    const Theme& theme = Theme::get();
    QColor fill = theme.series(0);
    fill.setAlpha(theme.isDark() ? 128 : 97);
    m_base->setBrush(fill);
    m_base->setPen(Qt::NoPen);
    m_variant->setPen(QPen(theme.series(1), 1.4));
    QColor grid = theme.series(1);
    grid.setAlpha(77);
    m_grid->setPen(QPen(grid, 1));
    for (int i = 0; i < 2; ++i) {
        m_clip[i]->setPen(QPen(theme.ink(Ink::Bad), 1, Qt::DashLine));
        m_clipText[i]->setColor(theme.ink(Ink::Bad));
        m_clipText[i]->setFont(theme.font(Type::Footnote));
    }
}

OutlierPlot::OutlierPlot(QWidget* parent)
    : Plot(tr("Outliers by input channel"), parent), m_channels(addGraph()), m_outliers(addGraph()),
      m_threshold(new QCPItemStraightLine(this)), m_thresholdText(new QCPItemText(this)) {
    m_channels->setLineStyle(QCPGraph::lsImpulse);
    m_channels->setAntialiased(false);
    m_outliers->setLineStyle(QCPGraph::lsImpulse);
    m_thresholdText->position->setTypeX(QCPItemPosition::ptAxisRectRatio);
    m_thresholdText->setPositionAlignment(Qt::AlignRight | Qt::AlignBottom);
    m_thresholdText->setPadding(QMargins(4, 2, 4, 2));
    OutlierPlot::retheme();
    clear();
}

void OutlierPlot::clear() {
    m_detail = {};
    rebuild();
}

void OutlierPlot::setDetail(const TensorDetail& detail) {
    m_detail = detail;
    rebuild();
}

void OutlierPlot::show(Of what) {
    m_of = what;
    rebuild();
}

const std::vector<float>& OutlierPlot::values() const {
    return m_of == Of::Weights ? m_detail.columnMaxima : m_detail.inputMaxima;
}

void OutlierPlot::setThreshold(double value) {
    m_at = value;
    m_threshold->point1->setCoords(0, value);
    m_threshold->point2->setCoords(1, value);
    m_thresholdText->position->setCoords(1, value);
    const auto beyond = std::count_if(values().begin(), values().end(),
                                      [&](float v) { return static_cast<double>(v) >= value; });
    m_thresholdText->setText(tr("%1: %n channels reach it", nullptr, static_cast<int>(beyond))
                                 .arg(units::number(value)));
}

void OutlierPlot::rebuild() {
    m_channels->data()->clear();
    m_outliers->data()->clear();
    for (QCPItemText* label : m_labels)
        removeItem(label);
    m_labels.clear();
    const bool weights = m_of == Of::Weights;
    setTitles(tr("input channel"), weights ? tr("largest |weight|, σ") : tr("largest |input|"));
    const std::vector<float>& maxima = values();
    m_threshold->setVisible(!maxima.empty());
    m_thresholdText->setVisible(!maxima.empty() && !weights);
    if (maxima.empty()) {
        setEmptyText(weights || m_detail.columnMaxima.empty()
                         ? tr("Outliers of the chosen tensor\nwill be here.")
                         : tr("No text has shown yet what\nflows into this tensor."));
        replot(rpQueuedReplot);
        return;
    }
    setEmptyText(QString());
    setThreshold(weights ? 6 : static_cast<double>(m_detail.outlierThreshold));
    // More channels than pixels are drawn as the maximum of each run of channels.
    const size_t run = std::max<size_t>(1, maxima.size() / 1000);
    double most = m_at * 4 / 3;
    for (size_t i = 0; i < maxima.size(); i += run) {
        const size_t end = std::min(i + run, maxima.size());
        const float value = *std::max_element(maxima.begin() + static_cast<std::ptrdiff_t>(i),
                                              maxima.begin() + static_cast<std::ptrdiff_t>(end));
        m_channels->addData(static_cast<double>(i), static_cast<double>(value));
        most = std::max(most, static_cast<double>(value));
    }
    std::vector<int64_t> far;
    for (size_t i = 0; i < maxima.size(); ++i)
        if (weights ? static_cast<double>(maxima[i]) > m_at
                    : static_cast<double>(maxima[i]) >= m_at)
            far.push_back(static_cast<int64_t>(i));
    const auto maximum = [&](int64_t column) {
        return static_cast<double>(maxima[static_cast<size_t>(column)]);
    };
    std::sort(far.begin(), far.end(),
              [&](int64_t a, int64_t b) { return maximum(a) > maximum(b); });
    for (size_t i = 0; i < far.size(); ++i) {
        m_outliers->addData(static_cast<double>(far[i]), maximum(far[i]));
        if (i >= 3) // three names are what fits without covering the data
            continue;
        auto* label = new QCPItemText(this);
        label->position->setCoords(static_cast<double>(far[i]), maximum(far[i]));
        const bool right = static_cast<size_t>(far[i]) * 2 > maxima.size();
        label->setPositionAlignment((right ? Qt::AlignRight : Qt::AlignLeft) | Qt::AlignVCenter);
        label->setPadding(QMargins(6, 0, 6, 0));
        label->setText(QStringLiteral("%1: %2").arg(far[i]).arg(units::number(maximum(far[i]))));
        label->setFont(Theme::get().font(Type::Footnote));
        label->setColor(Theme::get().ink(Ink::Text));
        m_labels.push_back(label);
    }
    setHome({-1, static_cast<double>(maxima.size())}, {0, most * 1.12});
    setFinding(
        weights ? tr("%n input channels reach beyond 6 σ.", nullptr, static_cast<int>(far.size()))
                : tr("%n input channels reach the threshold of %1.", nullptr,
                     static_cast<int>(far.size()))
                      .arg(units::number(m_at)));
    setCsv([maxima, weights] {
        QString text = weights ? QStringLiteral("channel,largest_sigma\n")
                               : QStringLiteral("channel,largest_input\n");
        for (size_t i = 0; i < maxima.size(); ++i)
            text += QStringLiteral("%1,%2\n").arg(i).arg(static_cast<double>(maxima[i]));
        return text;
    });
    replot(rpQueuedReplot);
}

bool OutlierPlot::isOnThreshold(const QPointF& position) const {
    constexpr double kReach = 6;
    return m_of == Of::Inputs && m_threshold->visible() &&
           axisRect()->rect().contains(position.toPoint()) &&
           std::abs(yAxis->coordToPixel(m_at) - position.y()) <= kReach;
}

void OutlierPlot::mousePressEvent(QMouseEvent* event) {
    m_dragging = event->button() == Qt::LeftButton && isOnThreshold(event->position());
    if (!m_dragging)
        Plot::mousePressEvent(event);
}

void OutlierPlot::mouseMoveEvent(QMouseEvent* event) {
    if (!m_dragging) {
        setCursor(isOnThreshold(event->position()) ? Qt::SizeVerCursor : Qt::ArrowCursor);
        Plot::mouseMoveEvent(event);
        return;
    }
    const double value = yAxis->pixelToCoord(event->position().y());
    setThreshold(std::clamp(value, 0.1, yAxis->range().upper));
    emit thresholdMoved(m_at, false);
    replot(rpQueuedReplot);
}

void OutlierPlot::mouseReleaseEvent(QMouseEvent* event) {
    if (!m_dragging) {
        Plot::mouseReleaseEvent(event);
        return;
    }
    m_dragging = false;
    emit thresholdMoved(m_at, true);
}

void OutlierPlot::retheme() {
    Plot::retheme();
    const Theme& theme = Theme::get();
    QColor quiet = theme.series(0);
    quiet.setAlpha(140);
    m_channels->setPen(QPen(quiet, 1));
    m_outliers->setPen(QPen(theme.series(1), 1.5));
    m_outliers->setScatterStyle(
        QCPScatterStyle(QCPScatterStyle::ssCircle, theme.series(1), theme.series(1), 6));
    m_threshold->setPen(QPen(theme.ink(Ink::Accent), 1.4));
    m_thresholdText->setColor(theme.ink(Ink::Accent));
    m_thresholdText->setFont(theme.font(Type::Footnote));
    m_thresholdText->setBrush(theme.ink(Ink::Panel));
    for (QCPItemText* label : m_labels) {
        label->setColor(theme.ink(Ink::Text));
        label->setFont(theme.font(Type::Footnote));
    }
}

LayerLossPlot::LayerLossPlot(QWidget* parent) : Plot(tr("Loss by layer"), parent) {
    setTitles(tr("block"), tr("relative error"));
    setInteractions({});
    setCsv([this] {
        QString text = QStringLiteral("layer,relative_error,sqnr_db,cosine\n");
        for (const LayerError& e : m_layers)
            text += QStringLiteral("%1,%2,%3,%4\n")
                        .arg(e.layer)
                        .arg(e.relativeError)
                        .arg(e.sqnr)
                        .arg(e.cosine);
        return text;
    });
    LayerLossPlot::retheme();
    setLayers({});
}

void LayerLossPlot::setLayers(const std::vector<LayerError>& layers) {
    m_layers = layers;
    for (QCPBars* bars : m_bars)
        removePlottable(bars);
    m_bars.clear();
    double least = 1e300, most = 0;
    for (const LayerError& e : m_layers)
        if (e.relativeError > 0) {
            least = std::min(least, e.relativeError);
            most = std::max(most, e.relativeError);
        }
    if (most == 0) {
        setEmptyText(m_layers.empty()
                         ? tr("Not measured yet. Measure fills\nthe loss of every layer.")
                         : tr("No loss: the variant\nequals the base."));
        replot(rpQueuedReplot);
        return;
    }
    setEmptyText(QString());
    // Bars that differ little stand on zero; a log axis is for those that differ by magnitudes.
    const bool log = most > kLogRatio * least;
    const double floor = log ? least / 3 : 0;
    useLog(log);
    for (const LayerError& e : m_layers) {
        auto* bars = new QCPBars(xAxis, yAxis);
        bars->setWidth(0.8);
        bars->setBaseValue(floor);
        bars->addData(e.layer, std::max(e.relativeError, floor));
        bars->setPen(Qt::NoPen);
        m_bars.push_back(bars);
    }
    auto ticker = QSharedPointer<QCPAxisTickerFixed>(new QCPAxisTickerFixed);
    ticker->setTickStep(1);
    ticker->setScaleStrategy(QCPAxisTickerFixed::ssMultiples);
    xAxis->setTicker(ticker);
    setHome({-0.6, static_cast<double>(m_layers.size()) - 0.4}, {floor, most * (log ? 1.6 : 1.1)});
    const auto worst = std::max_element(
        m_layers.begin(), m_layers.end(),
        [](const LayerError& a, const LayerError& b) { return a.relativeError < b.relativeError; });
    setFinding(tr("The error is largest after block %1: %2.")
                   .arg(worst->layer)
                   .arg(units::number(worst->relativeError)));
    colour();
}

void LayerLossPlot::useLog(bool log) {
    if (log == (yAxis->scaleType() == QCPAxis::stLogarithmic))
        return;
    if (log) {
        useLogCounts(yAxis);
        return;
    }
    yAxis->setScaleType(QCPAxis::stLinear);
    yAxis->setTicker(QSharedPointer<QCPAxisTicker>(new QCPAxisTicker));
    yAxis->setNumberFormat(QStringLiteral("g"));
    yAxis->setNumberPrecision(6);
}

void LayerLossPlot::setSelected(int layer) {
    m_selected = layer;
    colour();
}

void LayerLossPlot::colour() {
    double least = 1e300, most = 0;
    for (const LayerError& e : m_layers) {
        least = std::min(least, std::max(e.relativeError, 1e-30));
        most = std::max(most, e.relativeError);
    }
    const Theme& theme = Theme::get();
    for (size_t i = 0; i < m_bars.size() && i < m_layers.size(); ++i) {
        const double t = std::log(std::max(m_layers[i].relativeError, 1e-30) / least) /
                         std::log(std::max(most / least, 1.0001));
        m_bars[i]->setBrush(theme.lossMap(0.35 + 0.55 * t));
        m_bars[i]->setPen(m_layers[i].layer == m_selected ? QPen(theme.ink(Ink::Accent), 2)
                                                          : QPen(Qt::NoPen));
    }
    replot(rpQueuedReplot);
}

void LayerLossPlot::retheme() {
    Plot::retheme();
    colour();
}

void LayerLossPlot::mouseReleaseEvent(QMouseEvent* event) {
    Plot::mouseReleaseEvent(event);
    const int layer = static_cast<int>(std::lround(xAxis->pixelToCoord(event->position().x())));
    if (event->button() == Qt::LeftButton && layer >= 0 &&
        layer < static_cast<int>(m_layers.size()))
        emit layerClicked(layer);
}

} // namespace nibble
