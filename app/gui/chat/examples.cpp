#include "app/gui/chat/examples.h"

#include <QCoreApplication>

#include <array>

namespace nibble {

std::span<const ExamplePrompt> examplePrompts() {
    static constexpr std::array<ExamplePrompt, 8> all{{
        {QT_TRANSLATE_NOOP("Examples", "Who is there?"),
         QT_TRANSLATE_NOOP("Examples", "Who are you?")},
        {QT_TRANSLATE_NOOP("Examples", "What can you do?"),
         QT_TRANSLATE_NOOP("Examples", "What can you do?")},
        {QT_TRANSLATE_NOOP("Examples", "A capital"),
         QT_TRANSLATE_NOOP("Examples", "What is the capital of Japan?")},
        {QT_TRANSLATE_NOOP("Examples", "A sum"), QT_TRANSLATE_NOOP("Examples", "What is 48 + 35?")},
        {QT_TRANSLATE_NOOP("Examples", "Sort words"),
         QT_TRANSLATE_NOOP("Examples", "Sort these words: tiger, apple, moon")},
        {QT_TRANSLATE_NOOP("Examples", "A word problem"),
         QT_TRANSLATE_NOOP("Examples",
                           "Tom has 7 apples and gets 5 more. How many apples does Tom have now?")},
        {QT_TRANSLATE_NOOP("Examples", "In one word"),
         QT_TRANSLATE_NOOP("Examples", "What does a cow say? Answer in one word.")},
        {QT_TRANSLATE_NOOP("Examples", "A story about a fox"),
         QT_TRANSLATE_NOOP("Examples", "Tell me a short story about a fox.")},
    }};
    return all;
}

} // namespace nibble
