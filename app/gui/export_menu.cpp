#include "app/gui/export_menu.h"

#include "app/gui/workbench.h"

#include <QCoreApplication>
#include <QDir>
#include <QFileDialog>

namespace nibble {
namespace {

QString tr(const char* text) {
    return QCoreApplication::translate("nibble::ExportMenu", text);
}

} // namespace

std::vector<ExportKind> exportKinds() {
    return {{"gguf", tr("GGUF file (llama.cpp, Ollama)…")},
            {"gptq", tr("GPTQ folder (vLLM, TGI)…")},
            {"awq", tr("AWQ folder (vLLM, TGI)…")},
            {"compressed-tensors", tr("compressed-tensors folder (vLLM)…")}};
}

void exportVariant(Workbench& workbench, const char* container, QWidget* parent) {
    const bool isFile = container == std::string_view("gguf");
    const QString name = QStringLiteral("%1-%2%3").arg(
        workbench.modelName(), QString::fromStdString(workbench.recipe().name),
        isFile ? QStringLiteral(".gguf") : QLatin1Char('-') + QLatin1String(container));
    const QString path =
        isFile
            ? QFileDialog::getSaveFileName(parent, tr("Export as GGUF"), name,
                                           tr("GGUF model (*.gguf)"))
            : QFileDialog::getExistingDirectory(parent, tr("Put the folder “%1” into").arg(name));
    if (!path.isEmpty())
        workbench.exportVariant(isFile ? path : QDir(path).filePath(name), container);
}

QMenu* makeExportMenu(Workbench& workbench, QWidget* parent) {
    auto* menu = new QMenu(parent);
    menu->setToolTipsVisible(true);
    QObject::connect(menu, &QMenu::aboutToShow, menu, [menu, &workbench, parent] {
        menu->clear();
        for (const ExportKind& kind : exportKinds()) {
            QAction* action = menu->addAction(kind.title);
            const QString why = workbench.whyNotExported(kind.container);
            action->setEnabled(why.isEmpty());
            action->setToolTip(
                !why.isEmpty() ? why
                : kind.container == exportKinds().front().container
                    ? QString()
                    : tr("Embedding and head stay in F16, as these engines want them."));
            QObject::connect(action, &QAction::triggered, parent,
                             [&workbench, container = kind.container, parent] {
                                 exportVariant(workbench, container, parent);
                             });
        }
    });
    return menu;
}

} // namespace nibble
