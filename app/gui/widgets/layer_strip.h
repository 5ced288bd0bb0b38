#pragma once

#include "core/model/config.h"

#include <QAbstractScrollArea>

#include <functional>
#include <optional>
#include <set>
#include <vector>

namespace nibble {

/// The matrices of a model at a glance: blocks across, roles down, then embedding and head. Colour
/// is the chosen metric, the glyph is the format. One cell is selected; arrows move it.
class LayerStrip : public QAbstractScrollArea {
    Q_OBJECT
public:
    /// How values become colours: loss (low is good), or a neutral quantity.
    enum class Map { Loss, Neutral };

    struct Cell {
        QString glyph; ///< "I4"; empty = the model has no such tensor
        std::optional<double>
            value;    ///< of the metric, on the scale of setScale(); none = not measured
        QString text; ///< the cell in words, for the tooltip and for screen readers
        bool locked = false;
    };
    /// What a key asks for the marked cells: F, L, M.
    enum class Ask { Format, Lock, Measure };

    explicit LayerStrip(QWidget* parent = nullptr);

    /// Rows and blocks; `extras` stand apart at the right (embedding, head).
    void setGrid(int blocks, std::vector<Role> rows, std::vector<TensorKey> extras);
    /// Asked for every cell when it is painted or hovered.
    void setCells(std::function<Cell(TensorKey)> cells);
    /// Colours run from `low` to `high`, logarithmically when asked (then both are positive).
    void setScale(Map map, double low, double high, bool logarithmic);
    void setSelection(std::optional<TensorKey> key);
    std::optional<TensorKey> selection() const { return m_selection; }
    /// The selected cell and those that a drag, Shift or Ctrl added, in the order of the grid.
    std::vector<TensorKey> marked() const;
    QRect cellRect(TensorKey key) const;
    QColor colour(double value) const;

    QSize sizeHint() const override;
    QSize minimumSizeHint() const override;

signals:
    void selected(nibble::TensorKey key);
    /// Double click or Enter.
    void activated(nibble::TensorKey key);
    void menuRequested(nibble::TensorKey key, const QPoint& globalPosition);
    void asked(nibble::LayerStrip::Ask what, const QPoint& globalPosition);
    void markedChanged();

protected:
    void paintEvent(QPaintEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void contextMenuEvent(QContextMenuEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    bool viewportEvent(QEvent* event) override;

private:
    struct Metrics;
    Metrics metrics() const;
    std::optional<TensorKey> keyAt(const QPoint& position) const;
    void choose(TensorKey key, Qt::KeyboardModifiers modifiers = {});
    /// Marks the rectangle of cells between the anchor and this one.
    void markTo(TensorKey key);
    void step(int blocks, int rows, Qt::KeyboardModifiers modifiers);
    QPoint below(TensorKey key) const;
    void paintCell(QPainter& painter, const QRect& rect, TensorKey key, bool glyphs);
    void announce();
    void updateScrollBar();

    int m_blocks = 0;
    std::vector<Role> m_rows;
    std::vector<TensorKey> m_extras;
    std::function<Cell(TensorKey)> m_cells;
    std::optional<TensorKey> m_selection, m_anchor;
    std::set<TensorKey> m_marked; ///< empty = only the selection
    Map m_map = Map::Loss;
    double m_low = 0, m_high = 1;
    bool m_logarithmic = false;
};

} // namespace nibble
