#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <span>

namespace nibble::cli {

/// What a command does once its options are parsed; returns the exit code.
using Action = std::function<int()>;

/// One command of nibble-cli: one row in commands() and one file in commands/.
struct Command {
    const char* name;
    const char* about;
    /// Adds the command's options to `app`.
    Action (*define)(CLI::App& app);
};
std::span<const Command> commands();

Action defineDevices(CLI::App& app);
Action defineDoctor(CLI::App& app);
Action defineModels(CLI::App& app);
Action defineInspect(CLI::App& app);
Action defineTokenize(CLI::App& app);
Action defineDetokenize(CLI::App& app);
Action defineTemplate(CLI::App& app);
Action defineLogits(CLI::App& app);
Action defineChat(CLI::App& app);
Action defineEvaluate(CLI::App& app);
Action defineCalibrate(CLI::App& app);
Action defineQuantize(CLI::App& app);
Action defineDeploy(CLI::App& app);
Action defineLadder(CLI::App& app);
Action defineBench(CLI::App& app);

} // namespace nibble::cli
