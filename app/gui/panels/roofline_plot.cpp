#include "app/gui/panels/roofline_plot.h"

#include "app/gui/theme.h"
#include "app/gui/units.h"

#include <QToolTip>

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble {
namespace {

constexpr std::array kShapes = {QCPScatterStyle::ssDisc, QCPScatterStyle::ssSquare,
                                QCPScatterStyle::ssTriangle, QCPScatterStyle::ssDiamond,
                                QCPScatterStyle::ssCross};
constexpr double kReach = 10; ///< pixels within which a mark is read

double perByte(const KernelTime& k) {
    return k.operations / k.bytes;
}
double rate(const KernelTime& k) { ///< in GOP/s
    return k.operations / k.microseconds * 1e-3;
}

QString rowsText(const KernelTime& k) {
    return k.activationRows == 1 ? RooflinePlot::tr("1 row")
                                 : RooflinePlot::tr("%1 rows").arg(k.activationRows);
}

} // namespace

RooflinePlot::RooflinePlot(QWidget* parent)
    : Plot(tr("The device's limits and its kernels"), parent), m_roof(addGraph()),
      m_readText(new QCPItemText(this)), m_rateText(new QCPItemText(this)) {
    setTitles(tr("operations per byte read"), tr("GOP/s"));
    for (QCPAxis* axis : {xAxis, yAxis}) {
        axis->setScaleType(QCPAxis::stLogarithmic);
        axis->setTicker(QSharedPointer<QCPAxisTickerLog>(new QCPAxisTickerLog));
        axis->setNumberFormat(QStringLiteral("f"));
        axis->setNumberPrecision(0);
    }
    m_roof->removeFromLegend();
    m_readText->setPositionAlignment(Qt::AlignRight | Qt::AlignBottom);
    m_rateText->setPositionAlignment(Qt::AlignRight | Qt::AlignBottom);
    axisRect()->insetLayout()->setInsetAlignment(0, Qt::AlignBottom | Qt::AlignRight);
    setMouseTracking(true);
    setCsv([this] {
        QString text = QStringLiteral(
            "format,rows,cols,activation_rows,kernel,microseconds,gbs,gops,reached\n");
        if (!m_report)
            return text;
        for (const KernelTime& k : m_report->kernels)
            text += QStringLiteral("%1,%2,%3,%4,\"%5\",%6,%7,%8,%9\n")
                        .arg(QString::fromStdString(k.format))
                        .arg(k.rows)
                        .arg(k.cols)
                        .arg(k.activationRows)
                        .arg(QString::fromStdString(k.kernel))
                        .arg(k.microseconds)
                        .arg(k.bytes / k.microseconds * 1e-3)
                        .arg(rate(k))
                        .arg(reached(*m_report, k));
        return text;
    });
    RooflinePlot::retheme();
    setReport({});
}

double RooflinePlot::reached(const KernelReport& report, const KernelTime& k) {
    const double roof = std::min(report.readBandwidth * perByte(k), report.dotRate);
    return roof > 0 ? rate(k) * 1e9 / roof : 0;
}

QString RooflinePlot::describe(const KernelTime& k) const {
    return tr("%1, %2 × %3, %4: %5 GOP/s, %6 % of the limit")
        .arg(QString::fromStdString(k.format))
        .arg(k.rows)
        .arg(k.cols)
        .arg(rowsText(k))
        .arg(units::number(rate(k)))
        .arg(std::lround(100 * reached(*m_report, k)));
}

void RooflinePlot::setReport(const std::optional<KernelReport>& report) {
    m_report = report;
    for (QCPGraph* graph : m_formats)
        removeGraph(graph);
    m_formats.clear();
    for (QCPItemText* text : m_rows)
        removeItem(text);
    m_rows.clear();
    m_roof->data()->clear();
    const bool has = report && !report->kernels.empty() && report->readBandwidth > 0;
    for (QCPItemText* text : {m_readText, m_rateText})
        text->setVisible(has);
    legend->setVisible(has);
    setEmptyText(has ? QString()
                     : tr("What this device can do, and how near its kernels come,\nwill be here. "
                          "Press Measure."));
    if (!has) {
        replot(rpQueuedReplot);
        return;
    }
    double least = 1e300, most = 0, lowest = 1e300;
    const KernelTime* farthest = &report->kernels.front();
    std::vector<std::string> names;
    for (const KernelTime& k : report->kernels) {
        auto at = std::find(names.begin(), names.end(), k.format);
        if (at == names.end()) {
            at = names.insert(names.end(), k.format);
            m_formats.push_back(addGraph());
            m_formats.back()->setName(QString::fromStdString(k.format));
            m_formats.back()->setLineStyle(QCPGraph::lsNone);
        }
        m_formats[static_cast<size_t>(at - names.begin())]->addData(perByte(k), rate(k));
        if (at == names.begin())
            labelRows(k);
        least = std::min(least, perByte(k));
        most = std::max(most, perByte(k));
        lowest = std::min(lowest, rate(k));
        if (reached(*report, k) < reached(*report, *farthest))
            farthest = &k;
    }
    const double ridge = report->dotRate / report->readBandwidth;
    const double left = std::min(least, ridge) / 2, right = std::max(most, ridge) * 3;
    const double top = report->dotRate * 1e-9;
    m_roof->addData(left, report->readBandwidth * left * 1e-9);
    m_roof->addData(ridge, top);
    m_roof->addData(right, top);
    m_readText->setText(
        tr("reads %1/s").arg(units::bytes(static_cast<uint64_t>(report->readBandwidth))));
    m_rateText->setText(tr("multiplies 8-bit integers at %1 GOP/s").arg(units::number(top)));
    // Above the slope, where no mark can be.
    m_readText->position->setCoords(ridge * 0.7, report->readBandwidth * ridge * 0.7e-9);
    m_rateText->position->setCoords(right, top * 1.05);
    setHome({left, right}, {std::min(lowest, report->readBandwidth * left * 1e-9) / 2, top * 2.5});
    setFinding(tr("Farthest from the limit: %1").arg(describe(*farthest)));
    colour();
}

/// The same number of rows is at nearly the same place in every format.
void RooflinePlot::labelRows(const KernelTime& k) {
    auto* text = new QCPItemText(this);
    text->setText(m_rows.empty() ? rowsText(k) : QString::number(k.activationRows));
    // The first is near the slope, which runs above it.
    const bool first = m_rows.empty();
    text->setPositionAlignment(first ? Qt::AlignLeft | Qt::AlignVCenter
                                     : Qt::AlignHCenter | Qt::AlignBottom);
    text->setPadding({first ? space::s() : 0, 0, 0, first ? 0 : Theme::get().px(6)});
    text->position->setCoords(perByte(k), rate(k));
    m_rows.push_back(text);
}

void RooflinePlot::colour() {
    const Theme& theme = Theme::get();
    m_roof->setPen(QPen(theme.ink(Ink::Text), 1.5));
    for (size_t i = 0; i < m_formats.size(); ++i) {
        const QColor ink = theme.series(static_cast<int>(i));
        m_formats[i]->setScatterStyle(QCPScatterStyle(kShapes[i % kShapes.size()], ink, ink, 7));
    }
    std::vector<QCPItemText*> texts = m_rows;
    texts.insert(texts.end(), {m_readText, m_rateText});
    for (QCPItemText* text : texts) {
        text->setColor(theme.ink(Ink::SecondaryText));
        text->setFont(theme.font(Type::Footnote));
    }
    legend->setFont(theme.font(Type::Footnote));
    legend->setTextColor(theme.ink(Ink::SecondaryText));
    legend->setBrush(Qt::NoBrush);
    legend->setBorderPen(Qt::NoPen);
    replot(rpQueuedReplot);
}

void RooflinePlot::retheme() {
    Plot::retheme();
    colour();
}

void RooflinePlot::mouseMoveEvent(QMouseEvent* event) {
    Plot::mouseMoveEvent(event);
    const KernelTime* nearest = nullptr;
    double distance = kReach;
    if (m_report)
        for (const KernelTime& k : m_report->kernels) {
            const QPointF d = event->position() - QPointF(xAxis->coordToPixel(perByte(k)),
                                                          yAxis->coordToPixel(rate(k)));
            if (const double r = std::hypot(d.x(), d.y()); r < distance) {
                distance = r;
                nearest = &k;
            }
        }
    if (nearest)
        QToolTip::showText(event->globalPosition().toPoint(), describe(*nearest), this);
    else
        QToolTip::hideText();
}

} // namespace nibble
