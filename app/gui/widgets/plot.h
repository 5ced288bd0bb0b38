#pragma once

#include <QString>

#include <qcustomplot.h>

#include <functional>

namespace nibble {

/// A plot in the theme's colours: wheel or + and − zoom, drag or arrows pan, a double click or Home
/// resets. The context menu (also by the Menu key, Shift+F10 and Ctrl+S) exports PNG, SVG, PDF and
/// CSV, copies, and shows the values as a table. Subclasses fill it and recolour in retheme().
class Plot : public QCustomPlot {
    Q_OBJECT
public:
    explicit Plot(const QString& accessibleName, QWidget* parent = nullptr);

    /// Axis titles with their units.
    void setTitles(const QString& x, const QString& y);
    /// One sentence of what the plot shows now, for those who cannot see it.
    void setFinding(const QString& sentence);
    /// What Export as CSV and Copy as text give.
    void setCsv(std::function<QString()> csv) { m_csv = std::move(csv); }
    /// The ranges that a double click returns to.
    void setHome(const QCPRange& x, const QCPRange& y);
    /// Text in the middle instead of data: what will be here and how it comes.
    void setEmptyText(const QString& text);
    QSize minimumSizeHint() const override;
    /// Kinds: "PNG", "SVG", "PDF", "CSV". False when the file could not be written.
    bool saveAs(const QString& kind, const QString& path);
    /// The values in a window of their own, as a table that copies and exports.
    void showTable();

protected:
    /// Sets colours and fonts; called at the start and when the theme changes. Call the base first.
    virtual void retheme();
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void contextMenuEvent(QContextMenuEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void focusInEvent(QFocusEvent* event) override;
    void focusOutEvent(QFocusEvent* event) override;
    void paintEvent(QPaintEvent* event) override;

private:
    void openMenu(const QPoint& at);
    void resetRanges();
    bool moveBy(int key);
    void save(const QString& kind);
    bool saveSvg(const QString& path);

    std::function<QString()> m_csv;
    QCPRange m_homeX, m_homeY;
    bool m_hasHome = false;
    QCPItemText* m_empty;
};

} // namespace nibble
