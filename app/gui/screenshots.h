#pragma once

#include "app/gui/workbench.h"

#include <QString>
#include <QStringList>

namespace nibble {

class MainWindow;

/// Grabs every mode in both themes at both sizes into `folder`, the window being shown. Returns the
/// files written; Error{CannotWrite} when one could not be.
QStringList takeScreenshots(MainWindow& window, const QString& folder);

/// `nibble --screenshot DIR [MODEL]`: opens the model, measures its levels and tensors, gets one
/// chat answer, and renders every mode. Scores as many windows as a ladder does unless told.
/// Returns the exit code.
int screenshotRun(const QString& folder, const QString& modelPath, int windows = kLadderWindows);

} // namespace nibble
