#include "app/gui/widgets/layer_strip.h"

#include "app/gui/theme.h"

#include <QAccessible>
#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>

#include <algorithm>
#include <cmath>

namespace nibble {

/// Sizes of one painting, from the theme's type size and the room there is.
struct LayerStrip::Metrics {
    int label;        ///< width of the role names
    int cell, height; ///< pitch of a block, height of a row
    int extraLabel, extra;
    int gap;
    int numbers; ///< height of the block numbers
    int content; ///< width of all blocks
    int view;    ///< width that the blocks may take
};

LayerStrip::LayerStrip(QWidget* parent) : QAbstractScrollArea(parent) {
    setFrameShape(QFrame::NoFrame);
    setFocusPolicy(Qt::StrongFocus);
    setVerticalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    setAccessibleName(tr("Layer map"));
    viewport()->setMouseTracking(true);
    viewport()->setAutoFillBackground(false);
    connect(&Theme::get(), &Theme::changed, this, [this] {
        updateGeometry();
        updateScrollBar();
        viewport()->update();
    });
}

void LayerStrip::setGrid(int blocks, std::vector<Role> rows, std::vector<TensorKey> extras) {
    m_blocks = blocks;
    m_rows = std::move(rows);
    m_extras = std::move(extras);
    updateGeometry();
    updateScrollBar();
    viewport()->update();
}

void LayerStrip::setCells(std::function<Cell(TensorKey)> cells) {
    m_cells = std::move(cells);
    viewport()->update();
}

void LayerStrip::setScale(Map map, double low, double high, bool logarithmic) {
    m_map = map;
    m_low = low;
    m_high = high;
    m_logarithmic = logarithmic;
    viewport()->update();
}

void LayerStrip::setSelection(std::optional<TensorKey> key) {
    if (m_selection == key)
        return;
    m_selection = key;
    if (!key || !m_marked.contains(*key)) {
        m_marked.clear();
        m_anchor = key;
        emit markedChanged();
    }
    if (key && key->layer >= 0) {
        const Metrics m = metrics();
        const int left = key->layer * m.cell;
        auto* bar = horizontalScrollBar();
        if (left < bar->value())
            bar->setValue(left);
        else if (left + m.cell > bar->value() + m.view)
            bar->setValue(left + m.cell - m.view);
    }
    announce();
    viewport()->update();
}

QColor LayerStrip::colour(double value) const {
    double t = 0;
    if (m_logarithmic)
        t = std::log(std::max(value, m_low) / m_low) / std::log(std::max(m_high / m_low, 1.0001));
    else if (m_high > m_low)
        t = (value - m_low) / (m_high - m_low);
    return m_map == Map::Loss ? Theme::get().lossMap(t) : Theme::neutralMap(t);
}

LayerStrip::Metrics LayerStrip::metrics() const {
    const Theme& theme = Theme::get();
    const QFontMetrics text(theme.font(Type::Footnote));
    Metrics m{};
    for (const Role role : m_rows)
        m.label = std::max(m.label, text.horizontalAdvance(QString::fromUtf8(shortName(role))));
    m.label += space::s();
    for (const TensorKey key : m_extras)
        m.extraLabel =
            std::max(m.extraLabel, text.horizontalAdvance(QString::fromUtf8(shortName(key.role))));
    m.gap = 2;
    m.extra = theme.px(34);
    const int extras = m_extras.empty() ? 0 : space::l() + m.extraLabel + space::s() + m.extra;
    m.view = std::max(0, viewport()->width() - m.label - extras);
    const int least = theme.px(18), most = theme.px(88);
    m.cell = m_blocks == 0 ? most : std::clamp(m.view / m_blocks, least, most);
    m.height = theme.px(22);
    m.numbers = text.height() + space::xs();
    m.content = m.cell * m_blocks;
    m.view = std::min(m.view, m.content);
    return m;
}

std::vector<TensorKey> LayerStrip::marked() const {
    if (m_marked.empty())
        return m_selection ? std::vector{*m_selection} : std::vector<TensorKey>{};
    return {m_marked.begin(), m_marked.end()};
}

QRect LayerStrip::cellRect(TensorKey key) const {
    const Metrics m = metrics();
    if (key.layer >= 0) {
        const auto row = std::find(m_rows.begin(), m_rows.end(), key.role);
        if (row == m_rows.end())
            return {};
        return {m.label + key.layer * m.cell - horizontalScrollBar()->value(),
                static_cast<int>(row - m_rows.begin()) * m.height, m.cell - m.gap,
                m.height - m.gap};
    }
    const auto extra = std::find(m_extras.begin(), m_extras.end(), key);
    if (extra == m_extras.end())
        return {};
    return {m.label + m.view + space::l() + m.extraLabel + space::s(),
            static_cast<int>(extra - m_extras.begin()) * m.height, m.extra, m.height - m.gap};
}

std::optional<TensorKey> LayerStrip::keyAt(const QPoint& position) const {
    const Metrics m = metrics();
    if (m.height <= 0)
        return {};
    const int row = position.y() / m.height;
    if (position.x() >= m.label && position.x() < m.label + m.view && row >= 0 &&
        row < static_cast<int>(m_rows.size())) {
        const int block = (position.x() - m.label + horizontalScrollBar()->value()) / m.cell;
        if (block < m_blocks)
            return TensorKey{m_rows[static_cast<size_t>(row)], block};
    }
    for (const TensorKey key : m_extras)
        if (cellRect(key).contains(position))
            return key;
    return {};
}

QSize LayerStrip::sizeHint() const {
    const Theme& theme = Theme::get();
    const int rows = static_cast<int>(std::max(m_rows.size(), m_extras.size()));
    const int numbers = QFontMetrics(theme.font(Type::Footnote)).height() + space::xs();
    const Metrics m = metrics();
    const int bar = m.content > m.view ? horizontalScrollBar()->sizeHint().height() : 0;
    return {theme.px(480), rows * theme.px(22) + numbers + bar};
}

QSize LayerStrip::minimumSizeHint() const {
    return {Theme::get().px(240), sizeHint().height()};
}

void LayerStrip::updateScrollBar() {
    const Metrics m = metrics();
    horizontalScrollBar()->setRange(0, std::max(0, m.content - m.view));
    horizontalScrollBar()->setPageStep(std::max(1, m.view));
    horizontalScrollBar()->setSingleStep(m.cell);
}

void LayerStrip::resizeEvent(QResizeEvent* event) {
    QAbstractScrollArea::resizeEvent(event);
    updateGeometry(); // with room for all blocks there is no bar below them
    updateScrollBar();
}

void LayerStrip::paintCell(QPainter& painter, const QRect& rect, TensorKey key, bool glyphs) {
    const Theme& theme = Theme::get();
    const Cell cell = m_cells ? m_cells(key) : Cell{};
    if (cell.glyph.isEmpty() && !cell.value)
        return;
    const qreal radius = theme.px(2);
    painter.setPen(Qt::NoPen);
    QColor ink = theme.ink(Ink::SecondaryText);
    if (cell.value) {
        const QColor fill = colour(*cell.value);
        ink = Theme::textOn(fill);
        painter.setBrush(fill);
        painter.drawRoundedRect(rect, radius, radius);
        painter.setPen(QPen(theme.ink(Ink::Line), 0));
        painter.setBrush(Qt::NoBrush);
        painter.drawRoundedRect(QRectF(rect).adjusted(0.5, 0.5, -0.5, -0.5), radius, radius);
    } else {
        painter.setBrush(QBrush(theme.ink(Ink::Hatch), Qt::BDiagPattern));
        painter.drawRoundedRect(rect, radius, radius);
    }
    if (glyphs) {
        const QFontMetrics text(painter.font());
        if (!cell.value) { // the glyph stands on a plain patch, so that the hatch does not cross it
            QRect patch(0, 0, text.horizontalAdvance(cell.glyph) + 6, text.ascent());
            patch.moveCenter(rect.center());
            painter.fillRect(patch, theme.ink(Ink::Panel));
        }
        painter.setPen(ink);
        painter.drawText(rect, Qt::AlignCenter, cell.glyph);
    }
    if (cell.locked) { // a cut corner
        const int cut = theme.px(7);
        painter.setPen(Qt::NoPen);
        painter.setBrush(theme.ink(Ink::Panel));
        painter.drawPolygon(
            QPolygon({rect.topRight() + QPoint(1 - cut, 0), rect.topRight() + QPoint(2, 0),
                      rect.topRight() + QPoint(2, cut)}));
    }
    if (m_marked.contains(key) && m_selection != key) {
        painter.setBrush(Qt::NoBrush);
        painter.setPen(QPen(theme.ink(Ink::Accent), 1));
        painter.drawRoundedRect(QRectF(rect).adjusted(0.5, 0.5, -0.5, -0.5), radius, radius);
    }
    if (m_selection == key) {
        painter.setBrush(Qt::NoBrush);
        painter.setPen(QPen(theme.ink(Ink::Panel), 1));
        painter.drawRoundedRect(QRectF(rect).adjusted(1.5, 1.5, -1.5, -1.5), radius, radius);
        painter.setPen(QPen(theme.ink(Ink::Accent), 2));
        painter.drawRoundedRect(QRectF(rect).adjusted(0, 0, 0, 0), radius + 1, radius + 1);
    }
}

void LayerStrip::paintEvent(QPaintEvent*) {
    const Theme& theme = Theme::get();
    QPainter painter(viewport());
    painter.setRenderHint(QPainter::Antialiasing);
    painter.setFont(theme.font(Type::Footnote));
    const Metrics m = metrics();
    const bool glyphs = m.cell >= theme.px(20);
    const int scroll = horizontalScrollBar()->value();

    painter.setPen(theme.ink(Ink::SecondaryText));
    for (size_t row = 0; row < m_rows.size(); ++row)
        painter.drawText(
            QRect(0, static_cast<int>(row) * m.height, m.label - space::s(), m.height - m.gap),
            Qt::AlignRight | Qt::AlignVCenter, QString::fromUtf8(shortName(m_rows[row])));
    const QFontMetrics text(painter.font());
    const QRect numbers(m.label, static_cast<int>(m_rows.size()) * m.height, m.view, m.numbers);
    painter.drawText(QRect(0, numbers.y(), m.label - space::s(), m.numbers),
                     Qt::AlignRight | Qt::AlignVCenter, tr("block"));

    painter.save();
    painter.setClipRect(QRect(m.label - 2, 0, m.view + 4, viewport()->height()));
    // Every number where they fit, else every fifth or tenth.
    const int widest = text.horizontalAdvance(QString::number(std::max(0, m_blocks - 1))) + 6;
    const int every = widest <= m.cell ? 1 : widest <= m.cell * 5 ? 5 : 10;
    for (int block = scroll / m.cell; block < m_blocks; ++block) {
        const int left = m.label + block * m.cell - scroll;
        if (left > m.label + m.view)
            break;
        painter.setPen(theme.ink(Ink::SecondaryText));
        if (block % every == 0)
            painter.drawText(QRect(left - m.cell, numbers.y(), 3 * m.cell - m.gap, m.numbers),
                             Qt::AlignCenter, QString::number(block));
        for (const Role role : m_rows)
            paintCell(painter, cellRect({role, block}), {role, block}, glyphs);
    }
    painter.restore();

    for (const TensorKey key : m_extras) {
        const QRect rect = cellRect(key);
        painter.setPen(theme.ink(Ink::SecondaryText));
        painter.drawText(
            QRect(rect.x() - space::s() - m.extraLabel, rect.y(), m.extraLabel, rect.height()),
            Qt::AlignRight | Qt::AlignVCenter, QString::fromUtf8(shortName(key.role)));
        paintCell(painter, rect, key, true);
    }
    if (hasFocus() && !m_selection) {
        painter.setBrush(Qt::NoBrush);
        painter.setPen(QPen(theme.ink(Ink::Accent), 2));
        painter.drawRect(viewport()->rect().adjusted(1, 1, -1, -1));
    }
}

void LayerStrip::choose(TensorKey key, Qt::KeyboardModifiers modifiers) {
    if (modifiers & Qt::ShiftModifier) {
        markTo(key);
    } else if (modifiers & Qt::ControlModifier) {
        if (m_marked.empty() && m_selection)
            m_marked.insert(*m_selection);
        if (!m_marked.insert(key).second && m_marked.size() > 1) {
            m_marked.erase(key);
            key = *m_marked.begin();
        }
        m_anchor = key;
    } else {
        m_marked.clear();
        m_anchor = key;
    }
    emit markedChanged();
    setSelection(key);
    viewport()->update();
    emit selected(key);
}

void LayerStrip::markTo(TensorKey key) {
    if (!m_anchor)
        m_anchor = key;
    m_marked = {*m_anchor, key};
    const auto rowOf = [this](TensorKey k) {
        return std::find(m_rows.begin(), m_rows.end(), k.role) - m_rows.begin();
    };
    if (key.layer < 0 || m_anchor->layer < 0)
        return; // those outside the blocks have no rectangle
    const auto [left, right] = std::minmax({key.layer, m_anchor->layer});
    const auto [top, bottom] = std::minmax({rowOf(key), rowOf(*m_anchor)});
    for (int block = left; block <= right; ++block)
        for (auto row = top; row <= bottom; ++row)
            m_marked.insert({m_rows[static_cast<size_t>(row)], block});
}

void LayerStrip::mousePressEvent(QMouseEvent* event) {
    if (const auto key = keyAt(event->pos()); key && event->button() == Qt::LeftButton)
        choose(*key, event->modifiers());
}

void LayerStrip::mouseMoveEvent(QMouseEvent* event) {
    const auto key = keyAt(event->pos());
    if (event->buttons() & Qt::LeftButton && key && key != m_selection)
        choose(*key, Qt::ShiftModifier);
}

void LayerStrip::mouseDoubleClickEvent(QMouseEvent* event) {
    if (const auto key = keyAt(event->pos()))
        emit activated(*key);
}

QPoint LayerStrip::below(TensorKey key) const {
    return viewport()->mapToGlobal(cellRect(key).bottomLeft());
}

void LayerStrip::contextMenuEvent(QContextMenuEvent* event) {
    auto key = event->reason() == QContextMenuEvent::Mouse ? keyAt(event->pos()) : m_selection;
    if (!key)
        return;
    if (!m_marked.contains(*key)) // the menu of a range is for the range
        choose(*key);
    emit menuRequested(*key, event->reason() == QContextMenuEvent::Mouse ? event->globalPos()
                                                                         : below(*key));
}

void LayerStrip::step(int blocks, int rows, Qt::KeyboardModifiers modifiers) {
    if (m_rows.empty() || m_blocks == 0)
        return;
    if (!m_selection) {
        choose({m_rows.front(), 0});
        return;
    }
    if (m_selection->layer < 0) {
        auto at =
            std::find(m_extras.begin(), m_extras.end(), *m_selection) - m_extras.begin() + rows;
        if (blocks < 0)
            choose({m_rows[std::min<size_t>(static_cast<size_t>(at), m_rows.size() - 1)],
                    m_blocks - 1});
        else if (at >= 0 && at < static_cast<std::ptrdiff_t>(m_extras.size()))
            choose(m_extras[static_cast<size_t>(at)]);
        return;
    }
    const auto row =
        std::find(m_rows.begin(), m_rows.end(), m_selection->role) - m_rows.begin() + rows;
    const int block = m_selection->layer + blocks;
    if (block >= m_blocks && !m_extras.empty())
        choose(m_extras[std::min<size_t>(static_cast<size_t>(row), m_extras.size() - 1)]);
    else if (row >= 0 && row < static_cast<std::ptrdiff_t>(m_rows.size()) && block >= 0 &&
             block < m_blocks)
        choose({m_rows[static_cast<size_t>(row)], block}, modifiers & Qt::ShiftModifier);
}

void LayerStrip::keyPressEvent(QKeyEvent* event) {
    const auto ask = [this](Ask what) {
        if (m_selection)
            emit asked(what, below(*m_selection));
    };
    const Qt::KeyboardModifiers modifiers = event->modifiers();
    switch (event->key()) {
    case Qt::Key_Left:
        return step(-1, 0, modifiers);
    case Qt::Key_Right:
        return step(1, 0, modifiers);
    case Qt::Key_Up:
        return step(0, -1, modifiers);
    case Qt::Key_Down:
        return step(0, 1, modifiers);
    case Qt::Key_F:
        return ask(Ask::Format);
    case Qt::Key_L:
        return ask(Ask::Lock);
    case Qt::Key_M:
        return ask(Ask::Measure);
    case Qt::Key_Return:
    case Qt::Key_Enter:
        if (m_selection)
            emit activated(*m_selection);
        return;
    default:
        QAbstractScrollArea::keyPressEvent(event);
    }
}

bool LayerStrip::viewportEvent(QEvent* event) {
    if (event->type() == QEvent::ToolTip) {
        const auto* help = static_cast<QHelpEvent*>(event);
        const auto key = keyAt(help->pos());
        if (key && m_cells)
            QToolTip::showText(help->globalPos(), m_cells(*key).text, this);
        else
            QToolTip::hideText();
        return true;
    }
    return QAbstractScrollArea::viewportEvent(event);
}

void LayerStrip::announce() {
    QString words;
    if (m_selection && m_cells) {
        const Cell cell = m_cells(*m_selection);
        words = cell.text + (cell.locked ? tr(", locked") : QString()) + tr(", selected");
        if (m_marked.size() > 1)
            words += tr(", one of %n", nullptr, static_cast<int>(m_marked.size()));
    }
    setAccessibleDescription(words);
    QAccessibleEvent event(this, QAccessible::DescriptionChanged);
    QAccessible::updateAccessibility(&event);
}

} // namespace nibble
