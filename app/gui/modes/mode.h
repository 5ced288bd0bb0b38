#pragma once

#include <QString>
#include <QWidget>

#include <span>

namespace nibble {

class Workbench;

/// One page of the window. The frame calls these; everything else goes through the Workbench.
class Mode : public QWidget {
    Q_OBJECT
public:
    using QWidget::QWidget;
    /// Puts the keyboard focus where work begins.
    virtual void focusStart() { setFocus(); }
    /// Ctrl+F: the filter or search field of this page, if it has one.
    virtual void find() {}
    /// Moves panels back to where they began.
    virtual void resetLayout() {}
    /// Does a command of the menu that only this page understands ("new-chat", "again", …); false
    /// when it is not one of its own.
    virtual bool perform(const QString& command) {
        Q_UNUSED(command);
        return false;
    }
    /// Shows a sentence about something that failed, in the panel that it concerns.
    virtual void showProblem(const QString& sentence) = 0;

signals:
    /// Asks the frame to show another mode: "models", "tune", "chat", "inspect".
    void wantsMode(const QString& id);
};

/// One row of the rail; adding a mode is one file and one row in modes().
struct ModeEntry {
    const char* id;    ///< "tune"
    const char* title; ///< translated with context "Mode"
    const char* icon;
    bool needsModel;
    Mode* (*make)(Workbench& workbench, QWidget* parent);
};
std::span<const ModeEntry> modes();

Mode* makeModelsMode(Workbench& workbench, QWidget* parent);
Mode* makeTuneMode(Workbench& workbench, QWidget* parent);
Mode* makeChatMode(Workbench& workbench, QWidget* parent);
Mode* makeInspectMode(Workbench& workbench, QWidget* parent);

} // namespace nibble
