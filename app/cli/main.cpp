#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "core/base/error.h"

#include <cstdio>
#include <new>
#include <string>

namespace {

using nibble::cli::Action;
using nibble::cli::Command;

constexpr Command kCommands[] = {
    {"devices", "List the Vulkan devices and the CPU", nibble::cli::defineDevices},
    {"doctor", "Check every kernel of a device against the reference", nibble::cli::defineDoctor},
    {"models", "Find the models that programs keep on this computer", nibble::cli::defineModels},
    {"inspect", "Show what a model file holds", nibble::cli::defineInspect},
    {"tokenize", "Turn text into token ids", nibble::cli::defineTokenize},
    {"detokenize", "Turn token ids into text", nibble::cli::defineDetokenize},
    {"template", "Write a conversation in the model's chat format", nibble::cli::defineTemplate},
    {"logits", "Write the logits of a token sequence to a .npy file", nibble::cli::defineLogits},
    {"chat", "Chat with a model, or answer one prompt", nibble::cli::defineChat},
    {"evaluate", "Measure perplexity, and the loss against the base", nibble::cli::defineEvaluate},
    {"calibrate", "Let a model read a text and keep what its channels saw",
     nibble::cli::defineCalibrate},
    {"quantize", "Write a quantized model file", nibble::cli::defineQuantize},
    {"deploy", "Print the commands that run a model in other engines", nibble::cli::defineDeploy},
    {"ladder", "Measure size, loss and speed of several levels", nibble::cli::defineLadder},
    {"bench", "Measure speed and memory", nibble::cli::defineBench},
};

void complain(const std::string& sentence) {
    std::fprintf(stderr, "nibble-cli: %s\n", sentence.c_str());
}

/// The first word, where it names no command.
std::string unknownCommand(int argc, char** argv) {
    const std::string word = argc > 1 ? argv[1] : "";
    for (const Command& command : kCommands)
        if (word == command.name)
            return {};
    return word.starts_with("-") ? "" : word;
}

int parseAndRun(int argc, char** argv) {
    CLI::App app("Quantizes, measures and runs language models on your own GPU.", "nibble-cli");
    app.set_version_flag("--version", "nibble-cli " NIBBLE_VERSION);
    app.require_subcommand(1);
    app.footer("Exit codes: 0 ok, 2 usage, 3 bad input, 4 cannot write, 5 out of memory,\n"
               "6 device lost, 7 cancelled.");
    Action action;
    for (const Command& command : nibble::cli::commands()) {
        CLI::App* sub = app.add_subcommand(command.name, command.about);
        sub->final_callback([&action, run = command.define(*sub)] { action = run; });
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0)
            return app.exit(error); // --help and --version
        const std::string unknown = unknownCommand(argc, argv);
        complain((unknown.empty() ? error.what() : "There is no command \"" + unknown + "\"") +
                 " (see nibble-cli --help)");
        return static_cast<int>(nibble::ErrorKind::Usage);
    }
    return action();
}

} // namespace

std::span<const Command> nibble::cli::commands() {
    return kCommands;
}

int main(int argc, char** argv) {
    nibble::cli::catchInterrupts();
    try {
        return parseAndRun(argc, argv);
    } catch (const nibble::Error& error) {
        complain(error.what());
        return error.exitCode();
    } catch (const std::bad_alloc&) {
        complain("There is not enough memory for this; choose a smaller level or context.");
        return static_cast<int>(nibble::ErrorKind::OutOfMemory);
    } catch (const std::exception& error) {
        complain(std::string("Unexpected failure: ") + error.what());
        return static_cast<int>(nibble::ErrorKind::Internal);
    }
}
