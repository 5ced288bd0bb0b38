#include "core/runtime/doctor.h"
#include "core/runtime/probe.h"

#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"

#include <fmt/format.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string device = "auto";
    ForcedKernels forced;
    bool json = false;
};

std::string kernelsText(const KernelChoice& choice) {
    return choice.text() + (choice.measured ? ", the fastest measured here" : "");
}

void printReport(const DoctorReport& report, const std::optional<KernelChoice>& kernels) {
    print(fmt::format("{}, {}\n{}\n", deviceText(report.device), report.device.driver,
                      kernels ? kernelsText(*kernels) + "\n" : ""));
    Table table({{"kernel path", Table::Align::Left},
                 {"", Table::Align::Left},
                 {"error", Table::Align::Right},
                 {"bound", Table::Align::Right},
                 {"ms", Table::Align::Right},
                 {"", Table::Align::Left}});
    for (const DoctorCheck& check : report.checks)
        table.add({check.path, check.passed ? "ok" : "WRONG", fmt::format("{:.2g}", check.error),
                   fmt::format("{:.2g}", check.bound), numberText(check.milliseconds, 1),
                   check.note});
    print(table.text());
    const int failed = report.failed();
    print(failed == 0 ? fmt::format("\nAll {} paths give the right answer ({:.1f} s).\n",
                                    report.checks.size(), report.seconds)
                      : fmt::format("\n{} of {} paths are wrong on this driver.\n", failed,
                                    report.checks.size()));
}

int run(const Options& options) {
    const auto backend = openDevice(options.device);
    if (!options.forced.without.empty() || !options.forced.tiling.empty())
        forceKernels(*backend, options.forced);
    const std::optional<KernelChoice> kernels = kernelChoice(*backend); // before any is taken away
    const DoctorReport report = runDoctor(*backend, terminalProgress());
    if (options.json) {
        Json checks = Json::array();
        for (const DoctorCheck& check : report.checks)
            checks.push_back({{"path", check.path},
                              {"passed", check.passed},
                              {"error", check.error},
                              {"bound", check.bound},
                              {"milliseconds", check.milliseconds},
                              {"note", check.note}});
        printJson({{"device", deviceText(report.device)},
                   {"driver", report.device.driver},
                   {"passed", report.failed() == 0},
                   {"failed", report.failed()},
                   {"seconds", report.seconds},
                   {"kernels", kernels ? Json(kernelsText(*kernels)) : Json()},
                   {"checks", checks}});
    } else {
        printReport(report, kernels);
    }
    return report.failed() == 0 ? 0 : 1;
}

} // namespace

Action defineDoctor(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("--device", options->device, "auto, cpu, cpu:scalar, vulkan or vulkan:N")
        ->capture_default_str();
    app.add_option(
        "--without", options->forced.without,
        "Leave kernels out: dot, broadcast, matrix, tails, outliers, separated by commas");
    app.add_option("--tiling", options->forced.tiling,
                   "Products in WORKGROUPxTILESxAHEAD instead of those chosen, e.g. 256x1x2");
    addJson(app, options->json);
    app.footer("Exit code 0 when every path is right, 1 when one is wrong.");
    return [options] { return run(*options); };
}

} // namespace nibble::cli
