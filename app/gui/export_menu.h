#pragma once

#include <QMenu>

namespace nibble {

class Workbench;

/// What the edited variant can be written as: a GGUF file, or a folder that other engines load.
struct ExportKind {
    const char* container; ///< as `nibble-cli quantize --export` takes it
    QString title;         ///< with the engines that load it
};
std::vector<ExportKind> exportKinds();

/// Asks where, and writes the edited variant; why that is not possible is a problem of Tune.
void exportVariant(Workbench& workbench, const char* container, QWidget* parent);

/// One entry for each kind. What the recipe does not fit in is greyed, and its tool tip says why.
QMenu* makeExportMenu(Workbench& workbench, QWidget* parent);

} // namespace nibble
