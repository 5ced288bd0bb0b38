#include "app/gui/screenshots.h"

#include "app/gui/chat/examples.h"
#include "app/gui/main_window.h"
#include "app/gui/modes/chat_mode.h"
#include "app/gui/theme.h"

#include <QApplication>
#include <QDir>
#include <QSettings>
#include <QTemporaryDir>
#include <QTextStream>
#include <QThread>

#include <optional>

namespace nibble {

namespace {

/// Handles events until `ready`, or throws what the workbench complained about. Without a limit:
/// a large model on a CPU is measured for hours, and interrupting is the person's.
template <typename Ready>
void waitFor(Ready ready, const std::optional<QString>& problem) {
    while (!ready()) {
        QApplication::processEvents(QEventLoop::AllEvents | QEventLoop::WaitForMoreEvents, 50);
        if (problem)
            throw Error(ErrorKind::BadInput, problem->toStdString());
    }
}

void settle() {
    for (int i = 0; i < 4; ++i) {
        QApplication::sendPostedEvents();
        QApplication::processEvents(QEventLoop::AllEvents, 20);
        QThread::msleep(10);
    }
}

/// Every page in both themes and sizes; with a name only the present page, under that name.
QStringList grabModes(MainWindow& window, const QString& folder, const QString& onlyAs) {
    if (!QDir().mkpath(folder))
        fail(ErrorKind::CannotWrite, "The folder {} cannot be made; choose another.",
             folder.toStdString());
    QStringList files;
    for (const bool dark : {false, true}) {
        Theme::get().setChoice(dark ? Theme::Choice::Dark : Theme::Choice::Light);
        for (const QSize size : {QSize(1440, 900), QSize(1024, 700)}) {
            window.resize(size);
            for (const ModeEntry& entry : modes()) {
                if (onlyAs.isEmpty())
                    window.showMode(QLatin1String(entry.id));
                else if (window.currentMode() != QLatin1String(entry.id))
                    continue;
                settle();
                const QString name = onlyAs.isEmpty() ? QString::fromLatin1(entry.id) : onlyAs;
                const QString file =
                    QStringLiteral("%1/%2-%3-%4x%5.png")
                        .arg(folder, name, dark ? QStringLiteral("dark") : QStringLiteral("light"))
                        .arg(size.width())
                        .arg(size.height());
                if (!window.grab().save(file, "PNG"))
                    fail(ErrorKind::CannotWrite,
                         "{} cannot be written: is the disk full, or the folder protected?",
                         file.toStdString());
                files << file;
            }
        }
    }
    return files;
}

/// Two prompts, the first answered twice, so that the pictures show what a chat can do.
void converse(ChatMode& chat, const std::optional<QString>& problem) {
    GenerateOptions options;
    options.maxTokens = 120;
    options.sampler.seed = 7;
    const auto answered = [&](size_t turns) {
        waitFor(
            [&] { return chat.chat().turns.size() == turns && chat.chat().turns.back().finished; },
            problem);
    };
    size_t turns = 0;
    for (const ExamplePrompt& example : examplePrompts().first(2)) {
        chat.composer()->setSettings(options, {}, {});
        chat.composer()->setText(QCoreApplication::translate("Examples", example.prompt));
        chat.sendPrompt();
        answered(turns += 2);
        if (turns > 2)
            continue;
        ++options.sampler.seed;
        chat.composer()->setSettings(options, {}, {});
        chat.again();
        answered(turns);
    }
}

} // namespace

QStringList takeScreenshots(MainWindow& window, const QString& folder) {
    return grabModes(window, folder, {});
}

int screenshotRun(const QString& folder, const QString& modelPath, int windows) {
    QTextStream out(stdout), err(stderr);
    try {
        // Pictures show this run alone, not the chats and recent files of the person.
        const QTemporaryDir home;
        qputenv("XDG_DATA_HOME", home.path().toUtf8());
        QSettings::setPath(QSettings::NativeFormat, QSettings::UserScope, home.path());
        Workbench workbench;
        MainWindow window(workbench);
        std::optional<QString> problem;
        QObject::connect(&workbench, &Workbench::problem, &window,
                         [&](Concern, const QString& sentence) { problem = sentence; });
        window.resize(1440, 900);
        window.show();
        workbench.refreshDevices();
        waitFor([&] { return !workbench.devices().empty(); }, problem);
        workbench.runDoctor();
        waitFor([&] { return workbench.jobs().idle(); }, problem);
        grabModes(window, folder, QStringLiteral("first-run"));
        if (modelPath.isEmpty())
            window.openSample();
        else
            workbench.openModel(modelPath);
        waitFor([&] { return workbench.isRunning(); }, problem);
        out << QObject::tr("Opened %1 on %2")
                   .arg(workbench.modelName(), QString::fromStdString(workbench.device()->name))
            << Qt::endl;
        workbench.measureLadder(windows);
        waitFor([&] { return workbench.jobs().idle(); }, problem);
        out << QObject::tr("Measured %n levels", nullptr, int(workbench.ladder().size()))
            << Qt::endl;
        workbench.applyLevel(QStringLiteral("int4"));
        waitFor([&] { return !workbench.isApplying(); }, problem);
        workbench.measureTensors();
        workbench.measureQuality(windows);
        if (const auto key = workbench.selection())
            workbench.requestTensorDetail(*key);
        waitFor([&] { return workbench.jobs().idle(); }, problem);
        out << QObject::tr("Measured tensors and layers of %1").arg(workbench.runningTitle())
            << Qt::endl;
        window.showMode(QStringLiteral("chat"));
        converse(*static_cast<ChatMode*>(window.mode(QStringLiteral("chat"))), problem);
        waitFor([&] { return workbench.jobs().idle(); }, problem);
        const QStringList files = takeScreenshots(window, folder);
        out << QObject::tr("%n pictures are in %1", nullptr, int(files.size()))
                   .arg(QDir(folder).absolutePath())
            << Qt::endl;
        return 0;
    } catch (const Error& error) {
        err << QString::fromUtf8(error.what()) << Qt::endl;
        return error.exitCode();
    }
}

} // namespace nibble
