#pragma once

#include "app/gui/widgets/parts.h"

class QComboBox;

namespace nibble {

class Workbench;

/// What levels whose methods look at data are calibrated with: the text that ships, the user's own
/// chats, or a file. Nothing reads chats until they are chosen here.
class CalibrationChooser : public QWidget {
    Q_OBJECT
public:
    explicit CalibrationChooser(Workbench& workbench, QWidget* parent = nullptr);

    /// What has been chosen, and what that means, in sentences for a banner.
    static QString explanation(const Workbench& workbench);
    static void chooseChats(Workbench& workbench);
    /// Asks for a file, and chooses it.
    static void askFile(Workbench& workbench, QWidget* parent);

private:
    void refresh();
    void choose(int index);

    Workbench& m_workbench;
    QComboBox* m_box;
};

} // namespace nibble
