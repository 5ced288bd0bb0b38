#pragma once

#include <QString>

#include <span>

namespace nibble {

/// Prompts that an empty chat offers; the last of a new kind of question is one row.
struct ExamplePrompt {
    const char* title;
    const char* prompt;
};
std::span<const ExamplePrompt> examplePrompts();

} // namespace nibble
