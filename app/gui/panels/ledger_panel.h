#pragma once

#include "app/gui/widgets/parts.h"

#include <array>

class QComboBox;
class QGridLayout;
class QSlider;

namespace nibble {

class Workbench;
struct Ledger;

/// Memory of the device: after Apply (predicted) and now (measured) on one scale, adding up to the
/// total, with a verdict. Context, KV format and what is kept free are edited here.
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

    Workbench& m_workbench;
    Label *m_total, *m_limit, *m_verdict, *m_keepText, *m_verdictIcon;
    Bar *m_after, *m_now;
    struct Row {
        Label *name, *after, *now;
    };
    std::array<Row, 5> m_rows;
    QComboBox* m_context;
    Segments* m_kv;
    QSlider* m_keep;
};

} // namespace nibble
