#include "app/gui/panels/level_plane.h"

#include "app/gui/theme.h"
#include "app/gui/units.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

LevelPlane::LevelPlane(QWidget* parent)
    : Plot(tr("Levels by size and loss"), parent), m_frontier(addGraph()), m_dots(addGraph()),
      m_hollow(addGraph()), m_ring(addGraph()), m_whiskers(new QCPErrorBars(xAxis, yAxis)),
      m_hollowWhiskers(new QCPErrorBars(xAxis, yAxis)), m_tooBig(new QCPItemRect(this)),
      m_limitLine(new QCPItemStraightLine(this)), m_tooBigText(new QCPItemText(this)),
      m_callout(new QCPItemText(this)) {
    setTitles(tr("Weights in memory, MB"), tr("Loss: KLD to the base (lower is better)"));
    yAxis->setScaleType(QCPAxis::stLogarithmic);
    yAxis->setTicker(QSharedPointer<QCPAxisTickerLog>(new QCPAxisTickerLog));
    yAxis->setNumberFormat(QStringLiteral("gb"));
    yAxis->setNumberPrecision(0);
    m_whiskers->setDataPlottable(m_dots);
    m_hollowWhiskers->setDataPlottable(m_hollow);
    for (QCPErrorBars* bars : {m_whiskers, m_hollowWhiskers}) {
        bars->setErrorType(QCPErrorBars::etValueError);
        bars->setSymbolGap(8);
        bars->setWhiskerWidth(6);
        bars->setLayer(QStringLiteral("grid")); // under the dots, not a slot across them
    }
    m_dots->setLineStyle(QCPGraph::lsNone);
    m_hollow->setLineStyle(QCPGraph::lsNone);
    m_ring->setLineStyle(QCPGraph::lsNone);
    m_tooBig->setLayer(QStringLiteral("background"));
    m_tooBig->setPen(Qt::NoPen);
    m_tooBig->topLeft->setTypeY(QCPItemPosition::ptAxisRectRatio);
    m_tooBig->bottomRight->setType(QCPItemPosition::ptAxisRectRatio);
    m_tooBigText->position->setTypeY(QCPItemPosition::ptAxisRectRatio);
    m_tooBigText->setPositionAlignment(Qt::AlignLeft | Qt::AlignTop);
    m_tooBigText->setTextAlignment(Qt::AlignLeft);
    m_tooBigText->setPadding(QMargins(6, 4, 4, 4));
    m_callout->setPositionAlignment(Qt::AlignLeft | Qt::AlignTop);
    m_callout->position->setType(QCPItemPosition::ptAbsolute);
    m_callout->setTextAlignment(Qt::AlignLeft);
    m_callout->setPadding(QMargins(8, 6, 8, 6));
    m_callout->setLayer(QStringLiteral("overlay"));
    setCsv([this] {
        QString text = QStringLiteral(
            "level,bytes,bits_per_weight,kld_mean,kld_error,generate_tps,predicted\n");
        for (const LevelPoint& p : m_points)
            text += QStringLiteral("%1,%2,%3,%4,%5,%6,%7\n")
                        .arg(p.id)
                        .arg(p.bytes, 0, 'f', 0)
                        .arg(p.bitsPerWeight)
                        .arg(p.kld)
                        .arg(p.kldError)
                        .arg(p.tokensPerSecond)
                        .arg(p.predicted ? 1 : 0);
        return text;
    });
    connect(this, &QCustomPlot::beforeReplot, this, &LevelPlane::placeLabels);
    LevelPlane::retheme();
    rebuild();
}

void LevelPlane::setPoints(std::vector<LevelPoint> points, double limitBytes, const QString& why) {
    std::sort(points.begin(), points.end(),
              [](const LevelPoint& a, const LevelPoint& b) { return a.bytes < b.bytes; });
    m_points = std::move(points);
    m_limit = limitBytes;
    m_why = why;
    rebuild();
}

void LevelPlane::setChosen(const QString& id) {
    m_chosen = id;
    rebuild();
}

double LevelPlane::shown(const LevelPoint& point) const {
    return std::max(point.kld, m_floor);
}

void LevelPlane::rebuild() {
    for (QCPItemText* label : m_labels)
        removeItem(label);
    m_labels.clear();
    const bool empty = m_points.empty();
    setEmptyText(empty ? tr("Each level will be a point here:\nits size against what it loses.\n"
                            "Press Measure to fill it.")
                       : QString());
    for (QCPAbstractItem* item :
         std::initializer_list<QCPAbstractItem*>{m_tooBig, m_limitLine, m_tooBigText, m_callout})
        item->setVisible(false);
    for (QCPGraph* graph : {m_frontier, m_dots, m_hollow, m_ring})
        graph->data()->clear();
    m_whiskers->data()->clear();
    m_hollowWhiskers->data()->clear();
    if (empty) {
        replot(rpQueuedReplot);
        return;
    }

    double least = 1e300, most = 0, left = 1e300, right = 0;
    for (const LevelPoint& p : m_points) {
        if (p.kld > 0) {
            least = std::min(least, std::max(p.kld - p.kldError, p.kld / 4));
            most = std::max(most, p.kld + p.kldError);
        }
        left = std::min(left, p.bytes);
        right = std::max(right, p.bytes);
    }
    m_unit = right >= 1e9 ? 1e9 : 1e6;
    xAxis->setLabel(m_unit == 1e9 ? tr("Weights in memory, GB") : tr("Weights in memory, MB"));
    if (most == 0) {
        least = 1e-4;
        most = 1e-1;
    }
    m_floor = least / 4; // levels without any loss stand on the floor, labelled so
    const double margin = std::max((right - left) * 0.12, right * 0.03);
    setHome({(left - margin) / m_unit, (right + margin * 1.6) / m_unit},
            {m_floor / 1.6, most * 2.5});

    // The frontier: from small to large, those that lose less than everything smaller.
    double best = 1e300;
    for (const LevelPoint& p : m_points) {
        (p.predicted ? m_hollow : m_dots)->addData(p.bytes / m_unit, shown(p));
        (p.predicted ? m_hollowWhiskers : m_whiskers)
            ->addData(p.kld > 0 ? std::min(p.kldError, p.kld * 0.9) : 0, p.kldError);
        if (shown(p) < best) {
            best = shown(p);
            m_frontier->addData(p.bytes / m_unit, shown(p));
        }
        auto* label = new QCPItemText(this);
        label->setText(p.kld > 0 ? p.title : tr("%1, no loss").arg(p.title));
        label->position->setType(QCPItemPosition::ptAbsolute);
        label->setPositionAlignment(Qt::AlignLeft | Qt::AlignTop);
        label->setFont(Theme::get().font(Type::Footnote));
        label->setColor(Theme::get().ink(Ink::Text));
        m_labels.push_back(label);
        if (p.id == m_chosen) {
            m_ring->addData(p.bytes / m_unit, shown(p));
            m_callout->setText(
                tr("%1\n%2 · KLD ×10⁻³ %3\n%5 bits per weight%4")
                    .arg(p.predicted ? tr("%1, predicted").arg(p.title) : p.title,
                         units::bytes(static_cast<uint64_t>(p.bytes)),
                         (p.predicted ? QStringLiteral("≈ ") : QString()) +
                             units::withError(p.kld * 1e3, p.kldError * 1e3),
                         p.tokensPerSecond > 0
                             ? tr(" · %1 tokens/s").arg(units::number(p.tokensPerSecond))
                             : QString(),
                         units::number(p.bitsPerWeight)));
            m_callout->setVisible(true);
        }
    }
    if (m_limit > 0 && m_limit / m_unit < xAxis->range().upper) {
        m_tooBig->topLeft->setCoords(m_limit / m_unit, 0);
        m_tooBig->bottomRight->setCoords(1, 1);
        m_limitLine->point1->setCoords(m_limit / m_unit, m_floor);
        m_limitLine->point2->setCoords(m_limit / m_unit, most);
        m_tooBigText->position->setCoords(m_limit / m_unit, 0);
        m_tooBigText->setText(m_why);
        for (QCPAbstractItem* item :
             std::initializer_list<QCPAbstractItem*>{m_tooBig, m_limitLine, m_tooBigText})
            item->setVisible(true);
    }
    const auto smallest =
        std::min_element(m_points.begin(), m_points.end(),
                         [](const LevelPoint& a, const LevelPoint& b) { return a.kld < b.kld; });
    const auto measured = std::count_if(m_points.begin(), m_points.end(),
                                        [](const LevelPoint& p) { return !p.predicted; });
    setFinding(
        tr("%n levels measured, %1 predicted; %2 loses least.", nullptr, static_cast<int>(measured))
            .arg(static_cast<qsizetype>(m_points.size()) - measured)
            .arg(smallest->title));
    replot(rpQueuedReplot);
}

QPointF LevelPlane::pixel(const LevelPoint& point) const {
    return {xAxis->coordToPixel(point.bytes / m_unit), yAxis->coordToPixel(shown(point))};
}

/// The place nearest to the chosen dot that covers the fewest others.
QRectF LevelPlane::calloutBox(QPointF dot, QSizeF size, const std::vector<QRectF>& dots) const {
    constexpr double kStep = 8, kGap = 12;
    const QRectF inside = axisRect()->rect().adjusted(4, 4, -4, -4);
    QRectF best(dot, size);
    double least = std::numeric_limits<double>::max();
    for (double y = inside.top(); y + size.height() <= inside.bottom(); y += kStep)
        for (double x = inside.left(); x + size.width() <= inside.right(); x += kStep) {
            const QRectF box(QPointF(x, y), size);
            const auto covered = std::count_if(dots.begin(), dots.end(), [&](const QRectF& other) {
                return other.intersects(box);
            });
            const double dx = std::max({box.left() - dot.x(), dot.x() - box.right(), 0.0});
            const double dy = std::max({box.top() - dot.y(), dot.y() - box.bottom(), 0.0});
            const double away = std::max(std::hypot(dx, dy), kGap);
            if (const double cost = away + 1000.0 * static_cast<double>(covered); cost < least) {
                least = cost;
                best = box;
            }
        }
    return best;
}

/// Labels move aside where they would collide, and hide where no side is free.
void LevelPlane::placeLabels() {
    const QFontMetricsF text(Theme::get().font(Type::Footnote));
    const QRectF inside = axisRect()->rect();
    std::vector<QRectF> taken;
    for (const LevelPoint& p : m_points) {
        QRectF dot(0, 0, 12, 12);
        dot.moveCenter(pixel(p));
        taken.push_back(dot);
    }
    if (m_callout->visible()) {
        const auto chosen = std::find_if(m_points.begin(), m_points.end(),
                                         [&](const LevelPoint& p) { return p.id == m_chosen; });
        if (chosen != m_points.end()) {
            const QSizeF size =
                text.boundingRect(QRectF(0, 0, 1000, 100), 0, m_callout->text()).size() +
                QSizeF(18, 14);
            const QRectF box = calloutBox(pixel(*chosen), size, taken);
            m_callout->position->setCoords(box.topLeft());
            taken.push_back(box);
        }
    }
    for (size_t i = 0; i < m_points.size() && i < m_labels.size(); ++i) {
        const QPointF dot = pixel(m_points[i]);
        const QSizeF size(text.horizontalAdvance(m_labels[i]->text()) + 2, text.height());
        const QPointF places[] = {{10, -size.height() / 2},
                                  {-10 - size.width(), -size.height() / 2},
                                  {-size.width() / 2, -10 - size.height()},
                                  {-size.width() / 2, 10},
                                  {8, -8 - size.height()},
                                  {8, 8}};
        bool placed = false;
        for (const QPointF& offset : places) {
            const QRectF box(dot + offset, size);
            if (!inside.adjusted(-2, -2, 2, 2).contains(box) ||
                std::any_of(taken.begin(), taken.end(),
                            [&](const QRectF& other) { return other.intersects(box); }))
                continue;
            m_labels[i]->position->setCoords(box.topLeft());
            taken.push_back(box);
            placed = true;
            break;
        }
        m_labels[i]->setVisible(placed && m_points[i].id != m_chosen);
    }
}

void LevelPlane::retheme() {
    Plot::retheme();
    const Theme& theme = Theme::get();
    m_frontier->setPen(QPen(theme.ink(Ink::Accent), 1.2));
    const QColor text = theme.ink(Ink::Text);
    m_dots->setScatterStyle(QCPScatterStyle(QCPScatterStyle::ssCircle, text, text, 8));
    m_hollow->setScatterStyle(
        QCPScatterStyle(QCPScatterStyle::ssCircle, QPen(text, 1.5), theme.ink(Ink::Panel), 8));
    m_ring->setScatterStyle(QCPScatterStyle(
        QCPScatterStyle::ssCircle, QPen(theme.ink(Ink::Accent), 3), theme.ink(Ink::Panel), 13));
    for (QCPErrorBars* bars : {m_whiskers, m_hollowWhiskers})
        bars->setPen(QPen(theme.ink(Ink::SecondaryText), 1));
    m_tooBig->setBrush(theme.ink(Ink::BadFill));
    m_limitLine->setPen(QPen(theme.ink(Ink::Bad), 1, Qt::DashLine));
    m_tooBigText->setColor(theme.ink(Ink::Bad));
    m_tooBigText->setFont(theme.font(Type::Footnote));
    m_callout->setFont(theme.font(Type::Footnote));
    m_callout->setColor(theme.ink(Ink::Text));
    m_callout->setBrush(theme.ink(Ink::Panel));
    m_callout->setPen(QPen(theme.ink(Ink::Accent), 1));
    for (QCPItemText* label : m_labels) {
        label->setFont(theme.font(Type::Footnote));
        label->setColor(text);
    }
}

void LevelPlane::resizeEvent(QResizeEvent* event) {
    Plot::resizeEvent(event);
    replot(rpQueuedReplot);
}

const LevelPoint* LevelPlane::at(const QPointF& position) const {
    const LevelPoint* nearest = nullptr;
    double distance = 14;
    for (const LevelPoint& p : m_points) {
        const QPointF d = pixel(p) - position;
        if (const double r = std::hypot(d.x(), d.y()); r < distance) {
            distance = r;
            nearest = &p;
        }
    }
    return nearest;
}

void LevelPlane::mouseReleaseEvent(QMouseEvent* event) {
    Plot::mouseReleaseEvent(event);
    if (event->button() != Qt::LeftButton)
        return;
    if (const LevelPoint* point = at(event->position()))
        emit chosen(point->id);
}

void LevelPlane::mouseDoubleClickEvent(QMouseEvent* event) {
    if (const LevelPoint* point = at(event->position()))
        emit activated(point->id);
    else
        Plot::mouseDoubleClickEvent(event);
}

void LevelPlane::keyPressEvent(QKeyEvent* event) {
    const int step = event->key() == Qt::Key_Right ? 1 : event->key() == Qt::Key_Left ? -1 : 0;
    if (step == 0 || m_points.empty() || event->modifiers() & Qt::ControlModifier) {
        Plot::keyPressEvent(event);
        return;
    }
    const auto now = std::find_if(m_points.begin(), m_points.end(),
                                  [&](const LevelPoint& p) { return p.id == m_chosen; });
    const int index = now == m_points.end() ? 0 : static_cast<int>(now - m_points.begin()) + step;
    emit chosen(
        m_points[static_cast<size_t>(std::clamp(index, 0, static_cast<int>(m_points.size()) - 1))]
            .id);
}

} // namespace nibble
