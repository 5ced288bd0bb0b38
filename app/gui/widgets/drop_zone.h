#pragma once

#include "app/gui/widgets/parts.h"

namespace nibble {

/// A dashed panel that files are dropped on; what was dropped comes as a path.
class DropZone : public Panel {
    Q_OBJECT
public:
    explicit DropZone(QWidget* parent = nullptr);

signals:
    void dropped(const QString& path);

protected:
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dragLeaveEvent(QDragLeaveEvent* event) override;
    void dropEvent(QDropEvent* event) override;
};

/// Rows of "what … value" with hairlines between them.
class FactList : public QWidget {
    Q_OBJECT
public:
    explicit FactList(QWidget* parent = nullptr);
    void setFacts(const std::vector<std::pair<QString, QString>>& facts, bool lastIsTotal = false);
};

} // namespace nibble
