#pragma once

#include "app/gui/widgets/parts.h"

#include <array>

class QComboBox;
class QGridLayout;
class QSlider;

namespace nibble {

class Workbench;
struct Ledger;

/// Memory of the device: after Apply (predicted) and now (measured) on one scale, which is the
/// whole memory or, for a model that would be a hair's breadth of it, the model's own; a table that
/// adds up to the total, and a verdict. Context, KV format and what is kept free are edited here.
class LedgerPanel : public Panel {
    Q_OBJECT
public:
    explicit LedgerPanel(Workbench& workbench, QWidget* parent = nullptr);
    uint64_t keepFree() const;

signals:
    void keepFreeChanged();

private:
    class Bar;
    void refresh();
    void refreshControls();
    void refreshBars(uint64_t budget, uint64_t limit);
    void refreshVerdict(uint64_t keep);

    Workbench& m_workbench;
    Label *m_total, *m_limit, *m_scale, *m_unit, *m_verdict, *m_keepText, *m_verdictIcon;
    Bar *m_after, *m_now;
    struct Row {
        Label *name, *after, *now;
    };
    std::array<Row, 6> m_rows;
    QComboBox* m_context;
    Segments* m_kv;
    QSlider* m_keep;
};

} // namespace nibble
