#pragma once

#include "app/gui/workbench.h"

#include <QUndoCommand>

namespace nibble {

/// One undoable edit of the recipe; consecutive edits of one `series` (0 = none) become one. The
/// undo stack's indexChanged tells the panels.
class RecipeStep : public QUndoCommand {
public:
    RecipeStep(Workbench& workbench, Recipe before, Recipe after, const QString& text,
               int series = 0)
        : QUndoCommand(text), m_workbench(workbench), m_before(std::move(before)),
          m_after(std::move(after)), m_series(series) {}
    void undo() override { m_workbench.replaceRecipe(m_before); }
    void redo() override { m_workbench.replaceRecipe(m_after); }
    int id() const override { return m_series == 0 ? -1 : m_series; }
    bool mergeWith(const QUndoCommand* next) override {
        const auto* step = static_cast<const RecipeStep*>(next);
        m_after = step->m_after;
        setText(step->text());
        return true;
    }

private:
    Workbench& m_workbench;
    Recipe m_before, m_after;
    int m_series;
};

} // namespace nibble
