#include "app/gui/panels/method_loss_plot.h"

#include "app/gui/theme.h"
#include "app/gui/units.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble {
namespace {

constexpr std::array kShapes = {QCPScatterStyle::ssDisc, QCPScatterStyle::ssSquare,
                                QCPScatterStyle::ssTriangle, QCPScatterStyle::ssDiamond,
                                QCPScatterStyle::ssCross};

} // namespace

MethodLossPlot::MethodLossPlot(QWidget* parent)
    : Plot(tr("Loss by block and method"), parent), m_mark(new QCPItemStraightLine(this)) {
    setTitles(tr("block"), tr("adds to KLD, ×10⁻³"));
    setInteractions({});
    yAxis->setScaleType(QCPAxis::stLogarithmic);
    yAxis->setTicker(QSharedPointer<QCPAxisTickerLog>(new QCPAxisTickerLog));
    yAxis->setNumberFormat(QStringLiteral("gb"));
    yAxis->setNumberPrecision(0);
    auto ticker = QSharedPointer<QCPAxisTickerFixed>(new QCPAxisTickerFixed);
    ticker->setTickStep(1);
    ticker->setScaleStrategy(QCPAxisTickerFixed::ssMultiples);
    xAxis->setTicker(ticker);
    axisRect()->insetLayout()->setInsetAlignment(0, Qt::AlignTop | Qt::AlignRight);
    setCsv([this] {
        QString text = QStringLiteral("method,block,kld\n");
        for (const auto& [title, losses] : m_losses)
            for (size_t i = 0; i < losses.size(); ++i)
                text += QStringLiteral("%1,%2,%3\n").arg(title).arg(i).arg(losses[i]);
        return text;
    });
    MethodLossPlot::retheme();
    setLosses({});
}

void MethodLossPlot::setLosses(std::map<QString, std::vector<double>> losses) {
    m_losses = std::move(losses);
    for (QCPGraph* line : m_lines)
        removeGraph(line);
    m_lines.clear();
    double least = 1e300, most = 0;
    size_t blocks = 0;
    QString worst;
    for (const auto& [title, values] : m_losses) {
        QCPGraph* line = addGraph();
        line->setName(title);
        for (size_t i = 0; i < values.size(); ++i) {
            if (values[i] <= 0)
                continue;
            line->addData(static_cast<double>(i), values[i] * 1e3);
            least = std::min(least, values[i] * 1e3);
            if (values[i] * 1e3 > most) {
                most = values[i] * 1e3;
                worst = tr("%1 loses most in block %2").arg(title).arg(i);
            }
        }
        blocks = std::max(blocks, values.size());
        m_lines.push_back(line);
    }
    legend->setVisible(most > 0);
    m_mark->setVisible(false);
    setEmptyText(most > 0 ? QString()
                          : tr("What each block loses by each method\nwill be here. Press "
                               "Measure."));
    if (most > 0) {
        // Room above the lines for their names.
        setHome({-0.3, static_cast<double>(blocks) - 0.7},
                {least / 2, most * std::pow(most / least, 1.1) * 2});
        setFinding(worst);
    }
    colour();
}

void MethodLossPlot::setSelected(int layer) {
    m_mark->point1->setCoords(layer, 0);
    m_mark->point2->setCoords(layer, 1);
    m_mark->setVisible(layer >= 0 && !m_lines.empty());
    replot(rpQueuedReplot);
}

void MethodLossPlot::colour() {
    const Theme& theme = Theme::get();
    for (size_t i = 0; i < m_lines.size(); ++i) {
        const QColor colour = theme.series(static_cast<int>(i));
        m_lines[i]->setPen(QPen(colour, 1.5));
        m_lines[i]->setScatterStyle(
            QCPScatterStyle(kShapes[i % kShapes.size()], colour, colour, 6));
    }
    legend->setFont(theme.font(Type::Footnote));
    legend->setTextColor(theme.ink(Ink::SecondaryText));
    legend->setBrush(Qt::NoBrush);
    legend->setBorderPen(Qt::NoPen);
    legend->setFillOrder(QCPLegend::foColumnsFirst);
    legend->setWrap(2); // names fit beside each other in the narrowest panel
    m_mark->setPen(QPen(theme.ink(Ink::Accent), 1));
    replot(rpQueuedReplot);
}

void MethodLossPlot::retheme() {
    Plot::retheme();
    colour();
}

void MethodLossPlot::mouseReleaseEvent(QMouseEvent* event) {
    Plot::mouseReleaseEvent(event);
    if (event->button() != Qt::LeftButton || m_losses.empty())
        return;
    const auto blocks = static_cast<int>(m_losses.begin()->second.size());
    const int layer = static_cast<int>(std::lround(xAxis->pixelToCoord(event->position().x())));
    if (layer >= 0 && layer < blocks)
        emit layerClicked(layer);
}

} // namespace nibble
