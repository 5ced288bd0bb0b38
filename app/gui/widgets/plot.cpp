#include "app/gui/widgets/plot.h"

#include "app/gui/models/column_model.h"
#include "app/gui/theme.h"
#include "app/gui/theme_style.h"
#include "app/gui/units.h"
#include "app/gui/widgets/parts.h"

#include <QClipboard>
#include <QContextMenuEvent>
#include <QDialog>
#include <QFileDialog>
#include <QGuiApplication>
#include <QMenu>
#include <QMessageBox>
#include <QSaveFile>
#include <QSvgGenerator>
#include <QVBoxLayout>

namespace nibble {

namespace {

/// Numbers with the minus sign that the rest of the window uses.
class PlainTicker final : public QCPAxisTicker {
protected:
    QString getTickLabel(double tick, const QLocale& locale, QChar format, int precision) override {
        return units::minus(QCPAxisTicker::getTickLabel(tick, locale, format, precision));
    }
};

constexpr double kStep = 0.15; ///< of the range, for one press of an arrow key

} // namespace

Plot::Plot(const QString& accessibleName, QWidget* parent)
    : QCustomPlot(parent), m_empty(new QCPItemText(this)) {
    setAccessibleName(accessibleName);
    setFocusPolicy(Qt::StrongFocus);
    setMinimumSize(Theme::get().px(120), Theme::get().px(80));
    setInteractions(QCP::iRangeDrag | QCP::iRangeZoom);
    for (QCPAxis* axis : {xAxis, yAxis})
        axis->setTicker(QSharedPointer<QCPAxisTicker>(new PlainTicker));
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
    resetRanges();
}

void Plot::resetRanges() {
    if (!m_hasHome)
        return;
    xAxis->setRange(m_homeX);
    yAxis->setRange(m_homeY);
    replot(rpQueuedReplot);
}

bool Plot::moveBy(int key) {
    if (!interactions().testFlag(QCP::iRangeDrag))
        return false;
    const auto pan = [](QCPAxis* axis, double share) {
        const double from = axis->coordToPixel(axis->range().lower);
        const double to = axis->coordToPixel(axis->range().upper);
        const double shift = (to - from) * share;
        axis->setRange(axis->pixelToCoord(from + shift), axis->pixelToCoord(to + shift));
    };
    switch (key) {
    case Qt::Key_Left:
        pan(xAxis, -kStep);
        break;
    case Qt::Key_Right:
        pan(xAxis, kStep);
        break;
    case Qt::Key_Up:
        pan(yAxis, kStep);
        break;
    case Qt::Key_Down:
        pan(yAxis, -kStep);
        break;
    case Qt::Key_Plus:
    case Qt::Key_Equal:
        xAxis->scaleRange(1 - kStep);
        break;
    case Qt::Key_Minus:
        xAxis->scaleRange(1 / (1 - kStep));
        break;
    case Qt::Key_Home:
        resetRanges();
        break;
    default:
        return false;
    }
    replot(rpQueuedReplot);
    return true;
}

void Plot::keyPressEvent(QKeyEvent* event) {
    const bool menu = event->key() == Qt::Key_Menu ||
                      (event->key() == Qt::Key_F10 && event->modifiers() & Qt::ShiftModifier) ||
                      event->matches(QKeySequence::Save);
    if (menu)
        openMenu(mapToGlobal(axisRect()->rect().topLeft()));
    else if (event->matches(QKeySequence::Copy) && m_csv)
        QGuiApplication::clipboard()->setText(m_csv());
    else if (!moveBy(event->key()))
        QCustomPlot::keyPressEvent(event);
}

void Plot::focusInEvent(QFocusEvent* event) {
    QCustomPlot::focusInEvent(event);
    update();
}

void Plot::focusOutEvent(QFocusEvent* event) {
    QCustomPlot::focusOutEvent(event);
    update();
}

void Plot::paintEvent(QPaintEvent* event) {
    QCustomPlot::paintEvent(event);
    if (!hasFocus())
        return;
    QPainter painter(this);
    drawBox(&painter, rect(), Qt::transparent, Theme::get().ink(Ink::Accent), Theme::get().px(4),
            2);
}

void Plot::contextMenuEvent(QContextMenuEvent* event) {
    openMenu(event->reason() == QContextMenuEvent::Mouse
                 ? event->globalPos()
                 : mapToGlobal(axisRect()->rect().topLeft()));
}

void Plot::openMenu(const QPoint& at) {
    auto* popup = new QMenu(this);
    popup->setAttribute(Qt::WA_DeleteOnClose);
    QMenu& menu = *popup;
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
    menu.addSeparator();
    if (m_csv)
        menu.addAction(tr("Show as &table"), this, &Plot::showTable);
    if (m_hasHome)
        menu.addAction(tr("&Whole range"), this, &Plot::resetRanges);
    menu.popup(at);
}

void Plot::showTable() {
    if (!m_csv)
        return;
    QStringList lines = m_csv().split(u'\n', Qt::SkipEmptyParts);
    const QStringList heads = lines.isEmpty() ? QStringList() : lines.takeFirst().split(u',');
    std::vector<Column> columns;
    for (int c = 0; c < heads.size(); ++c) {
        const auto cell = [lines, c](int row) { return lines[row].section(u',', c, c); };
        bool isNumber = true;
        for (int row = 0; row < lines.size() && isNumber; ++row)
            cell(row).toDouble(&isNumber);
        Column column{heads[c], {}, cell, {}, {}};
        if (isNumber)
            column.number = [cell](int row) { return cell(row).toDouble(); };
        columns.push_back(std::move(column));
    }
    auto* dialog = new QDialog(this);
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setWindowTitle(accessibleName());
    auto* layout = new QVBoxLayout(dialog);
    auto* finding = new Label(accessibleDescription(), Type::Body, Ink::SecondaryText);
    finding->setWordWrap(true);
    layout->addWidget(finding);
    auto* model = new ColumnModel(std::move(columns), dialog);
    model->setRows(static_cast<int>(lines.size()));
    auto* table = new ColumnTable(model, accessibleName(), 0);
    layout->addWidget(table);
    dialog->resize(Theme::get().px(560), Theme::get().px(420));
    dialog->show();
    table->setFocus();
}

bool Plot::saveAs(const QString& kind, const QString& path) {
    if (kind == u"PDF")
        return savePdf(path);
    if (kind == u"PNG")
        return savePng(path, 0, 0, 2.0);
    if (kind == u"SVG")
        return saveSvg(path);
    QSaveFile file(path);
    const QByteArray text = m_csv ? m_csv().toUtf8() : QByteArray();
    return file.open(QIODevice::WriteOnly) && file.write(text) == text.size() && file.commit();
}

void Plot::save(const QString& kind) {
    const QString path = QFileDialog::getSaveFileName(this, tr("Save as %1").arg(kind), QString(),
                                                      QStringLiteral("*.") + kind.toLower());
    if (path.isEmpty())
        return;
    if (!saveAs(kind, path))
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
