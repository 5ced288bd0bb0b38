#include "core/calibrate/calibrate.h"

#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "core/base/hash.h"
#include "core/calibrate/imatrix.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, text, out;
    bool json = false;
};

int run(const Options& options) {
    const auto model = openModelArgument(options.model);
    const Progress progress = terminalProgress();
    CalibrateOptions what;
    what.moments = false; // a file holds the channels' energies only
    const auto calibration = options.text.empty()
                                 ? calibrate(model, shippedCalibrationText(), what, progress)
                                 : calibrationFromFile(model, options.text, progress);
    writeImatrix(*model, *calibration, options.out);
    if (options.json)
        printJson({{"path", options.out},
                   {"tokens", calibration->tokens},
                   {"inputs", calibration->inputs.size()},
                   {"text", calibration->text},
                   {"text_hash", hashName(calibration->textHash)}});
    else
        print(fmt::format("{}: {} inputs of {} over {} tokens of {}\n", options.out,
                          calibration->inputs.size(), model->name, calibration->tokens,
                          calibration->text));
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
    addJson(app, options->json);
    app.footer("llama.cpp's quantizer takes the file with --imatrix.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
