#pragma once

#include "app/gui/modes/mode.h"
#include "app/gui/workbench.h"

#include <QMainWindow>

#include <vector>

class QMenu;
class QPushButton;
class QStackedWidget;

namespace nibble {

class CommandPalette;
class Plot;
class Rail;
class StatusLine;

/// The frame: menus, rail, one page per mode, status line.
class MainWindow : public QMainWindow {
    Q_OBJECT
public:
    explicit MainWindow(Workbench& workbench, QWidget* parent = nullptr);

    void showMode(const QString& id);
    QString currentMode() const;
    Mode* mode(const QString& id) const;
    /// Every command of the menus, in their order.
    const std::vector<QAction*>& commands() const { return m_commands; }
    QAction* command(const QString& id) const;

public slots:
    void openFile();
    void openFolder();
    void openSample();
    void findCommand();
    void showKeys();
    void showDevice();
    void showAbout();
    void copyDiagnostics();

protected:
    void resizeEvent(QResizeEvent* event) override;
    void closeEvent(QCloseEvent* event) override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;

private:
    struct Entry {
        const char* id;
        QString text;
        QKeySequence key;
        std::function<void()> run;
        bool needsModel = false;
    };
    void add(QMenu* menu, const Entry& entry);
    void makeMenus();
    void makeFileMenu();
    void makeEditAndView();
    void makeModelMenu();
    void makeMeasureAndTools();
    void makeWindowAndHelp();
    void fillRecent(QMenu* menu);
    void perform(const QString& modeId, const QString& command);
    void refreshCommands();
    Plot* shownPlot() const;
    void showProblem(Concern concern, const QString& sentence);
    void askQuestions();
    void remember(const QString& path);

    Workbench& m_workbench;
    Rail* m_rail;
    QStackedWidget* m_pages;
    StatusLine* m_status;
    QPushButton* m_search;
    CommandPalette* m_palette;
    std::vector<Mode*> m_modes;
    std::vector<QAction*> m_commands, m_modelCommands;
};

/// Models opened lately, the newest first (QSettings).
QStringList recentModels();

} // namespace nibble
