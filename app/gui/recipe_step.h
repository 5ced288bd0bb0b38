#pragma once

#include "app/gui/workbench.h"

#include <QUndoCommand>

namespace nibble {

/// One undoable edit of the recipe; consecutive edits of one `series` (0 = none) become one. The
/// undo stack's indexChanged tells the panels.
class RecipeStep : public QUndoCommand {
public:
    RecipeStep(Workbench& workbench, Recipe before, Recipe after, const QString& text,
               int series = 0, bool live = false)
        : QUndoCommand(text), m_workbench(workbench), m_before(std::move(before)),
          m_after(std::move(after)), m_series(series), m_live(live) {}
    void undo() override { set(m_before); }
    void redo() override { set(m_after); }
    int id() const override { return m_series == 0 ? -1 : m_series; }
    bool mergeWith(const QUndoCommand* next) override {
        const auto* step = static_cast<const RecipeStep*>(next);
        m_after = step->m_after;
        setText(step->text());
        return true;
    }

private:
    void set(const Recipe& recipe) {
        m_workbench.replaceRecipe(recipe);
        if (m_live) // after the panels know of the recipe
            QMetaObject::invokeMethod(&m_workbench, &Workbench::applyLive, Qt::QueuedConnection);
    }

    Workbench& m_workbench;
    Recipe m_before, m_after;
    int m_series;
    bool m_live;
};

} // namespace nibble
