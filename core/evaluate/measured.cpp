#include "core/evaluate/measured.h"

#include "core/base/atomic_file.h"
#include "core/base/cache_folder.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
/// Of one model; a slider makes many recipes, and the oldest go first.
constexpr size_t kMostRecipes = 200;

/// One file a model; empty where nothing can be kept.
std::filesystem::path fileOf(const Model& base) {
    const std::filesystem::path folder = cacheFolder();
    if (folder.empty())
        return {};
    return folder / fmt::format("measured-{}.json", hashName(checkpointHash(*base.checkpoint)));
}

std::string keyOf(const Model& base, const Recipe& recipe, const Calibration* calibration) {
    const bool needed = calibration && neededCalibration(base, recipe) != Needs::Nothing;
    return hashName(recipe.hash()) + (needed ? " " + hashName(calibration->textHash) : "");
}

/// {recipe: measurement}, oldest first; empty for a file that is not there, damaged or older.
Json read(const std::filesystem::path& file) {
    try {
        const Json json = Json::parse(readTextFile(file, limits::kJsonBytes));
        if (json.at("version") == kVersion && json.at("measured").is_object())
            return json.at("measured");
    } catch (const std::exception&) {
        // As good as none: it can be measured again.
    }
    return Json::object();
}

} // namespace

std::string measuredJson(const QualityReport& quality, const ProbeReport* probes) {
    const auto asked = [&](auto value) { return probes ? Json(value(*probes)) : Json(nullptr); };
    return Json{{"text", quality.text},
                {"text_hash", quality.textHash},
                {"windows", quality.windows},
                {"context", quality.context},
                {"tokens", quality.tokens},
                {"device", quality.device},
                {"kld_mean", quality.kldMean},
                {"kld_error", quality.kldError},
                {"same_top", quality.sameTop},
                {"ppl", quality.ppl},
                {"ppl_error", quality.pplError},
                {"base_ppl", quality.basePpl},
                {"accuracy", asked([](const ProbeReport& p) { return p.accuracy; })},
                {"accuracy_error", asked([](const ProbeReport& p) { return p.error; })},
                {"questions", asked([](const ProbeReport& p) { return p.count; })}}
        .dump(-1, ' ', false, Json::error_handler_t::replace);
}

void keepMeasured(const Model& base, const Recipe& recipe, const Calibration* calibration,
                  const QualityReport& quality, const ProbeReport* probes) {
    const std::filesystem::path file = fileOf(base);
    if (file.empty() || !quality.hasReference)
        return;
    Json measured = read(file);
    const std::string key = keyOf(base, recipe, calibration);
    measured.erase(key); // to come last
    measured[key] = Json::parse(measuredJson(quality, probes));
    while (measured.size() > kMostRecipes)
        measured.erase(measured.begin());
    try {
        writeFileAtomically(file, Json{{"version", kVersion}, {"measured", measured}}.dump());
    } catch (const Error&) {
        // Nothing is lost but a line of a receipt.
    }
}

ExportNotes keptNotes(const Model& base, const Recipe& recipe, const Calibration* calibration) {
    const std::filesystem::path file = fileOf(base);
    if (file.empty())
        return {};
    const Json measured = read(file);
    const auto at = measured.find(keyOf(base, recipe, calibration));
    return {.calibration = {},
            .measurements = at != measured.end() && at->is_object() ? at->dump() : ""};
}

} // namespace nibble
