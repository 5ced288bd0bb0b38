#pragma once

#include <QWidget>

#include <vector>

class QSplitter;
class QTabWidget;

namespace nibble {

/// Panels that stand in splitters where there is room, and are tabs where there is not.
class FoldingPanels : public QWidget {
    Q_OBJECT
public:
    /// `root` holds, directly or in splitters inside it, every panel that is added.
    explicit FoldingPanels(QSplitter* root, QWidget* parent = nullptr);
    /// Its place when there is room is `index` in `home`.
    void add(QWidget* panel, const QString& title, QSplitter* home, int index);
    void fold(bool narrow);
    bool isFolded() const { return m_folded; }
    QTabWidget* tabs() { return m_tabs; }

private:
    struct Place {
        QWidget* panel;
        QString title;
        QSplitter* home;
        int index;
    };
    std::vector<Place> m_places;
    QSplitter* m_root;
    QTabWidget* m_tabs;
    bool m_folded = false;
};

/// A splitter whose panels keep the design's gap and cannot be folded away.
QSplitter* makeSplitter(Qt::Orientation orientation);

} // namespace nibble
