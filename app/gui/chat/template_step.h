#pragma once

#include <QString>
#include <QUndoCommand>

#include <functional>

namespace nibble {

/// One undoable choice of a chat's template.
class TemplateStep : public QUndoCommand {
public:
    TemplateStep(QString before, QString after, const QString& text,
                 std::function<void(const QString& name)> set)
        : QUndoCommand(text), m_before(std::move(before)), m_after(std::move(after)),
          m_set(std::move(set)) {}
    void undo() override { m_set(m_before); }
    void redo() override { m_set(m_after); }

private:
    QString m_before, m_after;
    std::function<void(const QString& name)> m_set;
};

} // namespace nibble
