#include "app/gui/chat/examples.h"

#include <QCoreApplication>

#include <array>

namespace nibble {

std::span<const ExamplePrompt> examplePrompts() {
    static constexpr std::array<ExamplePrompt, 8> all{{
        {QT_TRANSLATE_NOOP("Examples", "A story about a fox"),
         QT_TRANSLATE_NOOP("Examples", "Tell me a short story about a fox.")},
        {QT_TRANSLATE_NOOP("Examples", "A brave mouse"),
         QT_TRANSLATE_NOOP("Examples", "Tell me a story about a brave mouse.")},
        {QT_TRANSLATE_NOOP("Examples", "Say hello"),
         QT_TRANSLATE_NOOP("Examples", "Hello! Who are you?")},
        {QT_TRANSLATE_NOOP("Examples", "What can you do?"),
         QT_TRANSLATE_NOOP("Examples", "What can you do?")},
        {QT_TRANSLATE_NOOP("Examples", "The sea in winter"),
         QT_TRANSLATE_NOOP("Examples", "Describe the sea in winter.")},
        {QT_TRANSLATE_NOOP("Examples", "A letter to a friend"),
         QT_TRANSLATE_NOOP("Examples", "Write a short letter to a friend.")},
        {QT_TRANSLATE_NOOP("Examples", "Two plus three"),
         QT_TRANSLATE_NOOP("Examples", "What is two plus three?")},
        {QT_TRANSLATE_NOOP("Examples", "Good night"),
         QT_TRANSLATE_NOOP("Examples", "Wish me a good night.")},
    }};
    return all;
}

} // namespace nibble
