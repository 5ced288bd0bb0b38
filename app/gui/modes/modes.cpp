#include "app/gui/modes/mode.h"

#include <QCoreApplication>

#include <array>

namespace nibble {

std::span<const ModeEntry> modes() {
    static const std::array<ModeEntry, 4> all{{
        {"models", QT_TRANSLATE_NOOP("Mode", "Models"), "models", false, makeModelsMode},
        {"tune", QT_TRANSLATE_NOOP("Mode", "Tune"), "tune", true, makeTuneMode},
        {"chat", QT_TRANSLATE_NOOP("Mode", "Chat"), "chat", true, makeChatMode},
        {"inspect", QT_TRANSLATE_NOOP("Mode", "Inspect"), "inspect", true, makeInspectMode},
    }};
    return all;
}

} // namespace nibble
