#pragma once

#include "app/gui/models/column_model.h"
#include "app/gui/widgets/parts.h"

#include "core/files/metadata.h"

#include <vector>

class QLineEdit;

namespace nibble {

class Workbench;

/// What the open model's file says of itself: keys, types and values, filtered by words.
class MetadataPanel : public Panel {
    Q_OBJECT
public:
    explicit MetadataPanel(Workbench& workbench, QWidget* parent = nullptr);
    void focusFilter();
    const ColumnModel& table() const { return *m_model; }

signals:
    void closed();

private:
    void refresh();
    /// The chosen entry whole, or else all that are shown.
    void copy();

    Workbench& m_workbench;
    std::vector<MetadataRow> m_rows;
    Label* m_count;
    QLineEdit* m_filter;
    ColumnModel* m_model;
    ColumnTable* m_table;
};

} // namespace nibble
