#include "app/gui/widgets/plot.h"

#include "app/gui/theme.h"

#include <QClipboard>
#include <QContextMenuEvent>
#include <QFileDialog>
#include <QGuiApplication>
#include <QMenu>
#include <QMessageBox>
#include <QSaveFile>
#include <QSvgGenerator>

namespace nibble {

Plot::Plot(const QString& accessibleName, QWidget* parent)
    : QCustomPlot(parent), m_empty(new QCPItemText(this)) {
    setAccessibleName(accessibleName);
    setFocusPolicy(Qt::StrongFocus);
    setMinimumSize(Theme::get().px(120), Theme::get().px(80));
    setInteractions(QCP::iRangeDrag | QCP::iRangeZoom);
    axisRect()->setMinimumMargins({0, space::xs(), space::s(), 0});
    for (auto type : {QCPAxis::atTop, QCPAxis::atRight})
        axisRect()->axis(type)->setVisible(false);
    m_empty->setLayer(QStringLiteral("overlay"));
    m_empty->position->setType(QCPItemPosition::ptAxisRectRatio);
    m_empty->position->setCoords(0.5, 0.5);
    m_empty->setTextAlignment(Qt::AlignCenter);
    m_empty->setVisible(false);
    connect(&Theme::get(), &Theme::changed, this, [this] {
        retheme();
        replot(rpQueuedReplot);
    });
    Plot::retheme();
}

void Plot::setTitles(const QString& x, const QString& y) {
    xAxis->setLabel(x);
    yAxis->setLabel(y);
}

void Plot::setFinding(const QString& sentence) {
    setAccessibleDescription(sentence);
    setToolTip(QString());
}

void Plot::setHome(const QCPRange& x, const QCPRange& y) {
    m_homeX = x;
    m_homeY = y;
    m_hasHome = true;
    xAxis->setRange(x);
    yAxis->setRange(y);
}

void Plot::setEmptyText(const QString& text) {
    m_empty->setText(text);
    m_empty->setVisible(!text.isEmpty());
    for (QCPAxis* axis : {xAxis, yAxis}) {
        axis->setVisible(text.isEmpty());
        axis->grid()->setVisible(text.isEmpty());
    }
    if (!text.isEmpty())
        setFinding(text);
}

QSize Plot::minimumSizeHint() const {
    return {Theme::get().px(180), Theme::get().px(120)};
}

void Plot::retheme() {
    const Theme& theme = Theme::get();
    setBackground(theme.ink(Ink::Panel));
    m_empty->setColor(theme.ink(Ink::SecondaryText));
    m_empty->setFont(theme.font(Type::Body));
    for (QCPAxis* axis : {xAxis, yAxis}) {
        const QPen line(theme.ink(Ink::ControlBorder), 0);
        axis->setBasePen(line);
        axis->setTickPen(line);
        axis->setSubTickPen(line);
        axis->setLabelColor(theme.ink(Ink::SecondaryText));
        axis->setTickLabelColor(theme.ink(Ink::SecondaryText));
        axis->setLabelFont(theme.font(Type::Footnote));
        axis->setTickLabelFont(theme.font(Type::Footnote));
        axis->setLabelPadding(space::xs());
        axis->grid()->setPen(QPen(theme.ink(Ink::PlotGrid), 0));
        axis->grid()->setZeroLinePen(QPen(theme.ink(Ink::PlotGrid), 0));
        axis->setUpperEnding(QCPLineEnding::esNone);
    }
}

void Plot::mouseDoubleClickEvent(QMouseEvent* event) {
    QCustomPlot::mouseDoubleClickEvent(event);
    if (!m_hasHome)
        return;
    xAxis->setRange(m_homeX);
    yAxis->setRange(m_homeY);
    replot(rpQueuedReplot);
}

void Plot::contextMenuEvent(QContextMenuEvent* event) {
    QMenu menu(this);
    for (const QString& kind : {QStringLiteral("PNG"), QStringLiteral("SVG"), QStringLiteral("PDF"),
                                QStringLiteral("CSV")}) {
        if (kind != u"CSV" || m_csv)
            menu.addAction(tr("Save as %1…").arg(kind), this, [this, kind] { save(kind); });
    }
    menu.addSeparator();
    menu.addAction(tr("Copy picture"), this,
                   [this] { QGuiApplication::clipboard()->setPixmap(grab()); });
    if (m_csv)
        menu.addAction(tr("Copy values"), this,
                       [this] { QGuiApplication::clipboard()->setText(m_csv()); });
    menu.exec(event->globalPos());
}

void Plot::save(const QString& kind) {
    const QString path = QFileDialog::getSaveFileName(this, tr("Save as %1").arg(kind), QString(),
                                                      QStringLiteral("*.") + kind.toLower());
    if (path.isEmpty())
        return;
    bool saved = false;
    if (kind == u"PDF") {
        saved = savePdf(path);
    } else if (kind == u"PNG") {
        saved = savePng(path, 0, 0, 2.0);
    } else if (kind == u"CSV") {
        QSaveFile file(path);
        const QByteArray text = m_csv().toUtf8();
        saved = file.open(QIODevice::WriteOnly) && file.write(text) == text.size() && file.commit();
    } else {
        saved = saveSvg(path);
    }
    if (!saved)
        QMessageBox::warning(this, tr("Not saved"),
                             tr("%1 could not be written. Choose another place.").arg(path));
}

bool Plot::saveSvg(const QString& path) {
    QSvgGenerator generator;
    generator.setFileName(path);
    generator.setSize(size());
    generator.setViewBox(rect());
    QCPPainter painter;
    if (!painter.begin(&generator))
        return false;
    painter.setMode(QCPPainter::pmVectorized);
    toPainter(&painter, width(), height());
    return painter.end();
}

} // namespace nibble
