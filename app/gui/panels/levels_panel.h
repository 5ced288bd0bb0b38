#pragma once

#include "app/gui/models/column_model.h"
#include "app/gui/panels/level_plane.h"
#include "app/gui/widgets/parts.h"

class QSplitter;

namespace nibble {

class LedgerPanel;
class Workbench;
struct LadderRow;

/// The ladder of levels as a plot and as a table: size, bits per weight, loss, speed, fit. Choosing
/// one makes it the edited recipe; a double click makes it run.
class LevelsPanel : public Panel {
    Q_OBJECT
public:
    LevelsPanel(Workbench& workbench, LedgerPanel* ledger, QWidget* parent = nullptr);

    /// The table below the plot instead of beside it.
    void setStacked(bool stacked);

private:
    void refresh();
    const LadderRow* row(int index) const;
    std::vector<LevelPoint> points() const;
    QString footnote() const;

    Workbench& m_workbench;
    LedgerPanel* m_ledger;
    LevelPlane* m_plane;
    ColumnModel* m_model;
    ColumnTable* m_table;
    Label* m_footnote;
    QWidget* m_legend;
    QPushButton* m_predict;
    QSplitter* m_splitter;
};

} // namespace nibble
