#pragma once

#include "app/gui/widgets/parts.h"

namespace nibble {

class FactList;
class Workbench;
struct FoundModel;

/// The right column of the Models mode: what to do with the model, what it is, what it needs.
class ModelDetail : public Panel {
    Q_OBJECT
public:
    explicit ModelDetail(Workbench& workbench, QWidget* parent = nullptr);
    /// Shows the open model, or else this row of the table; `level` when the row is a variant.
    void show(const FoundModel* row, const QString& level = {});

signals:
    void wantsMode(const QString& id);
    void wantsOpen(const QString& path);
    void wantsMetadata();

private:
    void refresh();
    void refreshBest(bool isOpen);
    void refreshPlan(bool isOpen);
    Panel* makeBest();
    void openThen(const QString& mode);
    Workbench& m_workbench;
    ElidedLabel *m_name, *m_path;
    QPushButton *m_chat, *m_tune, *m_inspect;
    Label *m_note, *m_warning, *m_memoryTitle, *m_modelTitle, *m_planTitle, *m_plan;
    QPushButton* m_metadata;
    FactList *m_facts, *m_memory;
    Panel* m_best;
    Label *m_bestTitle, *m_bestText;
    QPushButton *m_useBest, *m_why;
    QString m_bestLevel, m_shownLevel, m_shownPath, m_shownName, m_shownProblem, m_shownPlan,
        m_thenMode;
};

} // namespace nibble
