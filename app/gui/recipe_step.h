#pragma once

#include "app/gui/workbench.h"

#include <QUndoCommand>

namespace nibble {

/// One undoable edit of the recipe. The undo stack's indexChanged tells the panels.
class RecipeStep : public QUndoCommand {
public:
    RecipeStep(Workbench& workbench, Recipe before, Recipe after, const QString& text)
        : QUndoCommand(text), m_workbench(workbench), m_before(std::move(before)),
          m_after(std::move(after)) {}
    void undo() override { m_workbench.replaceRecipe(m_before); }
    void redo() override { m_workbench.replaceRecipe(m_after); }

private:
    Workbench& m_workbench;
    Recipe m_before, m_after;
};

} // namespace nibble
