#include "app/gui/main_window.h"

#include "app/gui/command_palette.h"
#include "app/gui/rail.h"
#include "app/gui/status_line.h"
#include "app/gui/theme.h"
#include "app/gui/widgets/parts.h"
#include "core/base/resources.h"

#include <QCloseEvent>
#include <QDateTime>
#include <QDragEnterEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QMenuBar>
#include <QMimeData>
#include <QPushButton>
#include <QSettings>
#include <QStackedWidget>

namespace nibble {

namespace {

constexpr int kCompactWidth = 1100, kRecentKept = 12;

QString recentKey() {
    return QStringLiteral("recent");
}

QString droppedPath(const QMimeData* data) {
    for (const QUrl& url : data->urls())
        if (url.isLocalFile())
            return url.toLocalFile();
    return {};
}

} // namespace

QStringList recentModels() {
    return QSettings().value(recentKey()).toStringList();
}

MainWindow::MainWindow(Workbench& workbench, QWidget* parent)
    : QMainWindow(parent), m_workbench(workbench), m_rail(new Rail(workbench)),
      m_pages(new QStackedWidget), m_status(new StatusLine(workbench)),
      m_search(new QPushButton(tr("Find a command    Ctrl+K"))),
      m_palette(new CommandPalette(this)) {
    setWindowTitle(tr("Nibble"));
    setWindowIcon(QIcon(QStringLiteral(":/icons/app_icon.svg")));
    setAcceptDrops(true);
    setMinimumSize(800, 560);
    for (const ModeEntry& entry : modes()) {
        Mode* page = entry.make(workbench, this);
        connect(page, &Mode::wantsMode, this, &MainWindow::showMode);
        if (page->layout())
            page->layout()->setContentsMargins(0, 0, 0, 0); // the frame has the gap
        m_pages->addWidget(page);
        m_modes.push_back(page);
    }
    auto* central = new QWidget;
    auto* rows = new QVBoxLayout(central);
    rows->setContentsMargins(0, 0, 0, 0);
    rows->setSpacing(0);
    rows->addWidget(makeLine());
    auto* columns = new QHBoxLayout;
    columns->setSpacing(0);
    columns->addWidget(m_rail);
    auto* frame = new QWidget;
    auto* pad = new QVBoxLayout(frame);
    const int gap = space::m();
    pad->setContentsMargins(gap, gap, gap, gap);
    pad->addWidget(m_pages);
    columns->addWidget(frame, 1);
    rows->addLayout(columns, 1);
    rows->addWidget(m_status);
    setCentralWidget(central);
    m_search->setAccessibleName(tr("Find a command"));
    m_search->setFocusPolicy(Qt::TabFocus);
    connect(m_search, &QPushButton::clicked, this, &MainWindow::findCommand);
    m_search->setProperty("field", true);
    auto* corner = new QWidget;
    auto* cornerRow = new QHBoxLayout(corner);
    cornerRow->setContentsMargins(0, Theme::get().px(3), Theme::get().px(8), Theme::get().px(3));
    cornerRow->addWidget(m_search);
    menuBar()->setCornerWidget(corner, Qt::TopRightCorner);
    makeMenus();
    connect(m_rail, &Rail::chosen, this,
            [this](int index) { showMode(QLatin1String(modes()[size_t(index)].id)); });
    connect(&workbench, &Workbench::modelChanged, this, [this] {
        if (m_workbench.model())
            remember(m_workbench.modelPath());
        else
            showMode(QStringLiteral("models"));
        setWindowTitle(m_workbench.model() ? tr("%1 – Nibble").arg(m_workbench.modelName())
                                           : tr("Nibble"));
        refreshCommands();
    });
    connect(&workbench, &Workbench::runningChanged, this, &MainWindow::refreshCommands);
    connect(&workbench, &Workbench::recipeChanged, this, &MainWindow::refreshCommands);
    connect(&workbench, &Workbench::problem, this, &MainWindow::showProblem);
    refreshCommands();
    showMode(QStringLiteral("models"));
    const QSettings settings;
    if (!restoreGeometry(settings.value(QStringLiteral("geometry")).toByteArray()))
        resize(1280, 820);
}

void MainWindow::showMode(const QString& id) {
    for (size_t i = 0; i < m_modes.size(); ++i) {
        const ModeEntry& entry = modes()[i];
        if (id != QLatin1String(entry.id) || (entry.needsModel && !m_workbench.model()))
            continue;
        m_pages->setCurrentIndex(int(i));
        m_rail->setCurrent(int(i));
        m_modes[i]->focusStart();
    }
}

QString MainWindow::currentMode() const {
    return QLatin1String(modes()[size_t(m_pages->currentIndex())].id);
}

Mode* MainWindow::mode(const QString& id) const {
    for (size_t i = 0; i < m_modes.size(); ++i)
        if (id == QLatin1String(modes()[i].id))
            return m_modes[i];
    return nullptr;
}

QAction* MainWindow::command(const QString& id) const {
    for (QAction* action : m_commands)
        if (action->objectName() == id)
            return action;
    return nullptr;
}

void MainWindow::openFile() {
    const QString path = QFileDialog::getOpenFileName(
        this, tr("Open a model"), QFileInfo(recentModels().value(0)).absolutePath(),
        tr("Models (*.gguf);;All files (*)"));
    if (!path.isEmpty())
        m_workbench.openModel(path);
}

/// The sample's own questions stand where the dialog opens.
void MainWindow::askQuestions() {
    const QString path = QFileDialog::getOpenFileName(
        this, tr("Questions that every level answers"),
        QString::fromStdString(resourcePath("sample_model/probes.jsonl").string()),
        tr("Questions, one JSON object a line (*.jsonl);;All files (*)"));
    if (!path.isEmpty())
        m_workbench.measureLadder(kLadderWindows, path);
}

void MainWindow::openFolder() {
    const QString path = QFileDialog::getExistingDirectory(
        this, tr("Open a folder with config.json and safetensors"),
        QFileInfo(recentModels().value(0)).absolutePath());
    if (!path.isEmpty())
        m_workbench.openModel(path);
}

void MainWindow::remember(const QString& path) {
    QStringList recent = recentModels();
    recent.removeAll(path);
    recent.prepend(path);
    QSettings settings;
    settings.setValue(recentKey(), recent.mid(0, kRecentKept));
    settings.setValue(QStringLiteral("lastUsed/") + QString::fromLatin1(path.toUtf8().toHex()),
                      QDateTime::currentDateTime());
}

void MainWindow::findCommand() {
    m_palette->open(m_commands);
}

void MainWindow::perform(const QString& modeId, const QString& command) {
    if (!modeId.isEmpty())
        showMode(modeId);
    const QString id = modeId.isEmpty() ? currentMode() : modeId;
    if (id == currentMode())
        mode(id)->perform(command);
}

void MainWindow::showProblem(Concern concern, const QString& sentence) {
    static constexpr const char* kWhere[] = {"models", "tune", "chat", "inspect"};
    const QString id = QLatin1String(kWhere[size_t(concern)]);
    mode(id)->showProblem(sentence);
    if (id != currentMode())
        m_status->say(sentence, true);
}

void MainWindow::refreshCommands() {
    const bool open = m_workbench.model() != nullptr;
    for (QAction* action : m_modelCommands)
        action->setEnabled(open);
    if (QAction* apply = command(QStringLiteral("apply")))
        apply->setEnabled(m_workbench.hasPendingChange());
}

void MainWindow::resizeEvent(QResizeEvent* event) {
    QMainWindow::resizeEvent(event);
    const bool compact = width() < kCompactWidth;
    m_rail->setCompact(compact);
    m_search->parentWidget()->setVisible(!compact);
}

void MainWindow::closeEvent(QCloseEvent* event) {
    QSettings().setValue(QStringLiteral("geometry"), saveGeometry());
    m_workbench.cancelAll();
    event->accept();
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
    if (!droppedPath(event->mimeData()).isEmpty())
        event->acceptProposedAction();
}

void MainWindow::dropEvent(QDropEvent* event) {
    const QString path = droppedPath(event->mimeData());
    if (!path.isEmpty())
        m_workbench.openModel(path);
}

} // namespace nibble
