#include "app/gui/main_window.h"

#include "app/gui/export_menu.h"
#include "app/gui/panel_focus.h"
#include "app/gui/panels/calibration_chooser.h"
#include "app/gui/rail.h"
#include "app/gui/theme.h"
#include "app/gui/units.h"
#include "app/gui/widgets/plot.h"

#include <QActionGroup>
#include <QApplication>
#include <QFileInfo>
#include <QMenu>
#include <QMenuBar>
#include <QSettings>
#include <QWhatsThis>

/// Every action of the window, with its key.
namespace nibble {

namespace {

QString plain(QString title) {
    return title.remove(QLatin1Char('&'));
}

} // namespace

void MainWindow::add(QMenu* menu, const Entry& entry) {
    auto* action = menu->addAction(entry.text);
    action->setObjectName(QLatin1String(entry.id));
    action->setShortcut(entry.key);
    action->setProperty("menu", plain(menu->title()));
    connect(action, &QAction::triggered, this, [run = entry.run] { run(); });
    addAction(action);
    m_commands.push_back(action);
    if (entry.needsModel)
        m_modelCommands.push_back(action);
}

/// The plot that has the focus, else the first on this page.
Plot* MainWindow::shownPlot() const {
    if (auto* focused = qobject_cast<Plot*>(QApplication::focusWidget()))
        return focused;
    for (Plot* plot : mode(currentMode())->findChildren<Plot*>())
        if (plot->isVisible())
            return plot;
    return nullptr;
}

void MainWindow::makeMenus() {
    makeFileMenu();
    makeEditAndView();
    makeModelMenu();
    makeMeasureAndTools();
    makeWindowAndHelp();
}

void MainWindow::makeFileMenu() {
    QMenu* file = menuBar()->addMenu(tr("&File"));
    add(file, {"open", tr("&Open file…"), QKeySequence(tr("Ctrl+O")), [this] { openFile(); }});
    add(file, {"open-folder", tr("Open &folder…"), QKeySequence(tr("Ctrl+Shift+O")),
               [this] { openFolder(); }});
    add(file, {"sample", tr("Open the &sample"), {}, [this] { openSample(); }});
    QMenu* recent = file->addMenu(tr("&Recent"));
    connect(recent, &QMenu::aboutToShow, this, [this, recent] { fillRecent(recent); });
    add(file, {"close", tr("&Close model"), QKeySequence(tr("Ctrl+W")),
               [this] { m_workbench.closeModel(); }, true});
    file->addSeparator();
    QMenu* exports = file->addMenu(tr("&Export variant"));
    for (const ExportKind& kind : exportKinds()) {
        const bool usual = kind.container == exportKinds().front().container;
        add(exports, {usual ? "export" : kind.container, kind.title,
                      usual ? QKeySequence(tr("Ctrl+E")) : QKeySequence(),
                      [this, kind] { exportVariant(m_workbench, kind.container, this); }, true});
    }
    add(file, {"new-chat", tr("&New chat"), QKeySequence(tr("Ctrl+N")),
               [this] { perform(QStringLiteral("chat"), QStringLiteral("new-chat")); }, true});
    file->addSeparator();
    add(file, {"quit", tr("&Quit"), QKeySequence(tr("Ctrl+Q")), [this] { close(); }});
}

void MainWindow::fillRecent(QMenu* menu) {
    menu->clear();
    for (const QString& path : recentModels()) {
        auto* action = menu->addAction(
            QFileInfo(path).fileName().replace(QLatin1Char('&'), QLatin1String("&&")));
        action->setToolTip(path.toHtmlEscaped());
        connect(action, &QAction::triggered, this, [this, path] { m_workbench.openModel(path); });
    }
    if (menu->isEmpty())
        menu->addAction(tr("Nothing opened yet"))->setEnabled(false);
}

void MainWindow::makeEditAndView() {
    QMenu* edit = menuBar()->addMenu(tr("&Edit"));
    add(edit, {"undo", tr("&Undo recipe change"), QKeySequence(tr("Ctrl+Z")),
               [this] { m_workbench.undoStack()->undo(); }});
    add(edit, {"redo", tr("&Redo recipe change"), QKeySequence(tr("Ctrl+Shift+Z")),
               [this] { m_workbench.undoStack()->redo(); }});
    QUndoStack* stack = m_workbench.undoStack();
    connect(stack, &QUndoStack::canUndoChanged, command(QStringLiteral("undo")),
            &QAction::setEnabled);
    connect(stack, &QUndoStack::canRedoChanged, command(QStringLiteral("redo")),
            &QAction::setEnabled);
    command(QStringLiteral("undo"))->setEnabled(false);
    command(QStringLiteral("redo"))->setEnabled(false);
    edit->addSeparator();
    add(edit, {"find", tr("&Find here"), QKeySequence(tr("Ctrl+F")),
               [this] { mode(currentMode())->find(); }});
    add(edit, {"find-chats", tr("Find in &all chats"), QKeySequence(tr("Ctrl+Shift+F")),
               [this] { perform(QStringLiteral("chat"), QStringLiteral("search-chats")); }, true});
    add(edit,
        {"palette", tr("Find a &command"), QKeySequence(tr("Ctrl+K")), [this] { findCommand(); }});

    QMenu* view = menuBar()->addMenu(tr("&View"));
    int number = 1;
    for (const ModeEntry& entry : modes())
        add(view, {entry.id, QCoreApplication::translate("Mode", entry.title),
                   QKeySequence(QStringLiteral("Ctrl+%1").arg(number++)),
                   [this, id = entry.id] { showMode(QLatin1String(id)); }, entry.needsModel});
    view->addSeparator();
    QMenu* look = view->addMenu(tr("&Theme"));
    auto* group = new QActionGroup(this);
    const std::pair<Theme::Choice, QString> themes[] = {{Theme::Choice::System, tr("&System")},
                                                        {Theme::Choice::Light, tr("&Light")},
                                                        {Theme::Choice::Dark, tr("&Dark")}};
    for (const auto& [choice, text] : themes) {
        add(look, {"theme", text, {}, [choice = choice] {
                       Theme::get().setChoice(choice);
                       QSettings().setValue(QStringLiteral("theme"), int(choice));
                   }});
        m_commands.back()->setCheckable(true);
        m_commands.back()->setChecked(Theme::get().choice() == choice);
        group->addAction(m_commands.back());
    }
    const auto zoom = [](double factor) {
        Theme::get().setZoom(factor == 0 ? 1 : Theme::get().zoom() * factor);
        QSettings().setValue(QStringLiteral("zoom"), Theme::get().zoom());
    };
    add(view, {"zoom-in", tr("Zoom &in"), QKeySequence(tr("Ctrl++")), [zoom] { zoom(1.1); }});
    add(view, {"zoom-out", tr("Zoom &out"), QKeySequence(tr("Ctrl+-")), [zoom] { zoom(1 / 1.1); }});
    add(view, {"zoom-reset", tr("&Usual size"), QKeySequence(tr("Ctrl+0")), [zoom] { zoom(0); }});
    add(view, {"plot-table", tr("Show a plot as &table"), QKeySequence(tr("Ctrl+T")),
               [this] {
                   if (Plot* plot = shownPlot())
                       plot->showTable();
               },
               true});
    add(view, {"side", tr("Show or hide the side &list"), QKeySequence(tr("Ctrl+B")),
               [this] { perform({}, QStringLiteral("toggle-side")); }});
    add(view, {"full", tr("F&ull screen"), QKeySequence(tr("F11")),
               [this] { isFullScreen() ? showNormal() : showFullScreen(); }});
}

void MainWindow::makeModelMenu() {
    QMenu* model = menuBar()->addMenu(tr("&Model"));
    QMenu* level = model->addMenu(tr("&Level"));
    add(level, {"level-base",
                tr("Base, as the file stores it"),
                {},
                [this] { m_workbench.setLevel({}); },
                true});
    for (const LadderLevel& entry : ladderLevels())
        add(level, {"level",
                    QString::fromUtf8(entry.title),
                    {},
                    [this, name = entry.name] { m_workbench.setLevel(QLatin1String(name)); },
                    true});
    add(model,
        {"choose-level", tr("Choose a &level…"), QKeySequence(tr("Ctrl+L")),
         [this, level] { level->popup(mapToGlobal(QPoint(width() / 3, menuBar()->height()))); },
         true});
    add(model,
        {"baseline", tr("Make the running variant the &baseline"), QKeySequence(tr("Ctrl+D")),
         [this] { m_workbench.setBaseline(m_workbench.runningRecipe()); }, true});
    add(model, {"apply", tr("&Apply changes"), QKeySequence(tr("Ctrl+Return")),
                [this] { m_workbench.apply(); }, true});
    QMenu* calibration = model->addMenu(tr("Cali&brate with"));
    add(calibration, {"calibrate-shipped",
                      tr("The &text that ships"),
                      {},
                      [this] { m_workbench.setCalibration({}); },
                      true});
    add(calibration, {"calibrate-chats",
                      tr("Your own &chats, which stay on this computer"),
                      {},
                      [this] { CalibrationChooser::chooseChats(m_workbench); },
                      true});
    add(calibration, {"calibrate-file",
                      tr("A &file…"),
                      {},
                      [this] { CalibrationChooser::askFile(m_workbench, this); },
                      true});
    model->addSeparator();
    QMenu* context = model->addMenu(tr("&Context"));
    for (const int tokens : {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072})
        add(context, {"context", tr("%1 tokens").arg(units::count(tokens)), {}, [this, tokens] {
                          m_workbench.setContext(tokens);
                      }});
    QMenu* kv = model->addMenu(tr("&KV cache"));
    const std::pair<KvFormat, const char*> formats[] = {{KvFormat::F32, "F32"},
                                                        {KvFormat::F16, "F16"},
                                                        {KvFormat::Int8, "INT8"},
                                                        {KvFormat::Int4, "INT4"}};
    for (const auto& [format, text] : formats)
        add(kv, {"kv",
                 QLatin1String(text),
                 {},
                 [this, format = format] { m_workbench.setKv(format, format); },
                 true});
    QMenu* activations = model->addMenu(tr("Ac&tivations"));
    const std::pair<const char*, QString> kinds[] = {
        {"", tr("As the level says")}, {"float", tr("Float")}, {"int8", tr("INT8, blocks of 32")}};
    for (const auto& [value, text] : kinds)
        add(activations, {"activations", text, {}, [this, value = value] {
                              m_workbench.setActivations(QLatin1String(value));
                          }});
}

void MainWindow::makeMeasureAndTools() {
    QMenu* measure = menuBar()->addMenu(tr("M&easure"));
    add(measure,
        {"measure-ladder", tr("All &levels"), {}, [this] { m_workbench.measureLadder(); }, true});
    add(measure, {"measure-questions",
                  tr("All levels, with &questions…"),
                  {},
                  [this] { askQuestions(); },
                  true});
    add(measure, {"measure-quality",
                  tr("&This recipe, with every layer"),
                  {},
                  [this] { m_workbench.measureQuality(); },
                  true});
    add(measure, {"measure-tensors",
                  tr("Every te&nsor by itself"),
                  {},
                  [this] { m_workbench.measureTensors(); },
                  true});
    measure->addSeparator();
    add(measure, {"cancel-all", tr("&Stop all jobs"), {}, [this] { m_workbench.cancelAll(); }});

    QMenu* tools = menuBar()->addMenu(tr("&Tools"));
    QMenu* device = tools->addMenu(tr("&Device"));
    connect(device, &QMenu::aboutToShow, this, [this, device] {
        device->clear();
        m_rail->fillDevices(device);
    });
    add(tools, {"device-panel", tr("Device and its &limits"), QKeySequence(tr("Ctrl+Shift+D")),
                [this] { showDevice(); }});
    add(tools, {"doctor", tr("&Check the device"), {}, [this] { m_workbench.runDoctor(); }});
    add(tools,
        {"devices", tr("&Look for devices again"), {}, [this] { m_workbench.refreshDevices(); }});
    add(tools, {"diagnostics", tr("Copy &diagnostics"), {}, [this] { copyDiagnostics(); }});
}

void MainWindow::makeWindowAndHelp() {
    QMenu* window = menuBar()->addMenu(tr("&Window"));
    add(window, {"next-panel", tr("&Next panel"), QKeySequence(tr("F6")),
                 [this] { focusNextPanel(mode(currentMode()), 1); }});
    add(window, {"previous-panel", tr("&Previous panel"), QKeySequence(tr("Shift+F6")),
                 [this] { focusNextPanel(mode(currentMode()), -1); }});
    add(window, {"reset-layout", tr("&Reset layout"), {}, [this] {
                     for (Mode* page : m_modes)
                         page->resetLayout();
                     resize(1280, 820);
                 }});

    QMenu* help = menuBar()->addMenu(tr("&Help"));
    add(help, {"what", tr("&What is this?"), QKeySequence(tr("F1")),
               [] { QWhatsThis::enterWhatsThisMode(); }});
    add(help, {"keys", tr("&Keyboard shortcuts"), QKeySequence(tr("?")), [this] { showKeys(); }});
    add(help, {"about", tr("&About Nibble"), {}, [this] { showAbout(); }});
}

} // namespace nibble
