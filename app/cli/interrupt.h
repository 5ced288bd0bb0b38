#pragma once

#include "core/base/progress.h"

namespace nibble::cli {

/// From now on Ctrl+C (and a polite kill) asks the running command to stop instead of ending the
/// process, so that nothing half-written stays behind.
void catchInterrupts();

/// The flag that Ctrl+C sets.
std::shared_ptr<std::atomic<bool>> interruptFlag();

/// Reports on one line of stderr when that is a terminal, and stops at Ctrl+C.
Progress terminalProgress();
/// Removes the line that terminalProgress() left.
void clearProgressLine();

} // namespace nibble::cli
