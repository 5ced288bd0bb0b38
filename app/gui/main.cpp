#include "app/gui/main_window.h"
#include "app/gui/screenshots.h"
#include "app/gui/theme.h"

#include <QApplication>
#include <QCommandLineParser>
#include <QSettings>
#include <QTextStream>

using namespace nibble;

namespace {

bool hasDisplay() {
    return qEnvironmentVariableIsSet("DISPLAY") || qEnvironmentVariableIsSet("WAYLAND_DISPLAY");
}

bool wantsPictures(int argc, char** argv) {
    for (int i = 1; i < argc; ++i)
        if (QByteArrayView(argv[i]).startsWith("--screenshot"))
            return true;
    return false;
}

} // namespace

int main(int argc, char** argv) {
    const bool pictures = wantsPictures(argc, argv);
    const bool blind = !hasDisplay() && !qEnvironmentVariableIsSet("QT_QPA_PLATFORM");
    if (blind)
        qputenv("QT_QPA_PLATFORM", "offscreen");
    QApplication application(argc, argv);
    QApplication::setApplicationName(QStringLiteral("nibble"));
    QApplication::setApplicationDisplayName(QStringLiteral("Nibble"));
    QApplication::setOrganizationName(QStringLiteral("nibble"));
    QApplication::setApplicationVersion(QStringLiteral(NIBBLE_VERSION));
    QApplication::setDesktopFileName(QStringLiteral("nibble"));

    QCommandLineParser parser;
    parser.setApplicationDescription(
        QApplication::tr("A workbench that quantizes, measures and runs language models on your "
                         "own GPU."));
    parser.addPositionalArgument(QStringLiteral("MODEL"),
                                 QApplication::tr("A GGUF file, a safetensors folder, or "
                                                  "\"sample\"."),
                                 QStringLiteral("[MODEL]"));
    const QCommandLineOption screenshot(
        QStringLiteral("screenshot"),
        QApplication::tr("Run every job on the model, render every mode into DIR, and end."),
        QStringLiteral("DIR"));
    parser.addOption(screenshot);
    parser.addHelpOption();
    parser.addVersionOption();
    if (!parser.parse(QApplication::arguments())) {
        QTextStream(stderr) << parser.errorText() << Qt::endl;
        return int(ErrorKind::Usage);
    }
    if (parser.isSet(QStringLiteral("help")))
        parser.showHelp(0);
    if (parser.isSet(QStringLiteral("version")))
        parser.showVersion();
    if (parser.positionalArguments().size() > 1) {
        QTextStream(stderr) << QApplication::tr("One model at most; see --help.") << Qt::endl;
        return int(ErrorKind::Usage);
    }
    QString model = parser.positionalArguments().value(0);
    const bool sample = model == QLatin1String("sample");

    Theme::get().install();
    if (pictures)
        return screenshotRun(parser.value(screenshot), sample ? QString() : model);

    if (blind) {
        QTextStream(stderr) << QApplication::tr("There is no display to open a window on. Use "
                                                "nibble --screenshot DIR, or nibble-cli.")
                            << Qt::endl;
        return int(ErrorKind::Usage);
    }

    const QSettings settings;
    Theme::get().setChoice(Theme::Choice(settings.value(QStringLiteral("theme"), 0).toInt()));
    Theme::get().setZoom(settings.value(QStringLiteral("zoom"), 1.0).toDouble());
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    workbench.refreshDevices();
    if (sample)
        window.openSample();
    else if (!model.isEmpty())
        workbench.openModel(model);
    return QApplication::exec();
}
