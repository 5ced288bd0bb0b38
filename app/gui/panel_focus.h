#pragma once

#include <QWidget>

namespace nibble {

/// Moves the focus to the first control of the next panel on screen (or, with -1, of the one
/// before), in reading order; around at the ends.
void focusNextPanel(QWidget* page, int by);

} // namespace nibble
