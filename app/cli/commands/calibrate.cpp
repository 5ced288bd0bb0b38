#include "core/calibrate/calibrate.h"

#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "core/base/hash.h"
#include "core/calibrate/chat_text.h"
#include "core/calibrate/imatrix.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, text, chats, out;
    bool noCache = false, json = false;
};

int run(const Options& options) {
    const auto model = openModelArgument(options.model);
    const Progress progress = terminalProgress();
    CalibrateOptions what;
    what.moments = false; // a file holds the channels' energies only
    what.cached = !options.noCache;
    const auto calibration =
        !options.text.empty()    ? calibrationFromFile(model, options.text, progress, what)
        : !options.chats.empty() ? calibrate(model, chatText(*model, options.chats), what, progress)
                                 : calibrate(model, shippedCalibrationText(), what, progress);
    sayThin(calibration.get());
    writeImatrix(*model, *calibration, options.out);
    if (options.json)
        printJson({{"path", options.out},
                   {"tokens", calibration->tokens},
                   {"inputs", calibration->inputs.size()},
                   {"text", calibration->text},
                   {"kept", calibration->kept},
                   {"text_hash", hashName(calibration->textHash)}});
    else
        print(fmt::format("{}: {} inputs of {} over {} tokens of {}{}\n", options.out,
                          calibration->inputs.size(), model->name, calibration->tokens,
                          calibration->text, calibration->kept ? " (found kept)" : ""));
    return 0;
}

} // namespace

Action defineCalibrate(CLI::App& app) {
    auto options = std::make_shared<Options>();
    addModel(app, options->model);
    app.add_option("-o,--output", options->out, "The importance matrix to write (GGUF)")
        ->required();
    app.add_option("--text", options->text,
                   "A text file, or an importance matrix to convert (default: the text that ships)")
        ->check(CLI::ExistingFile);
    app.add_option("--chats", options->chats,
                   "Your own chats instead: a file of the workbench's chats folder, or the folder")
        ->check(CLI::ExistingPath)
        ->excludes("--text");
    app.add_flag("--no-cache", options->noCache,
                 "Neither look for a kept calibration nor keep this one");
    addJson(app, options->json);
    app.footer("llama.cpp's quantizer takes the file with --imatrix.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
