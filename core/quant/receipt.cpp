#include "core/quant/receipt.h"

#include "core/base/hash.h"
#include "core/files/packings.h"
#include "core/model/names.h"
#include "core/quant/calibration.h"
#include "core/quant/quantizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace nibble {
namespace {
using Json = nlohmann::ordered_json;
constexpr size_t kSample = 4096;
} // namespace

std::filesystem::path receiptPath(const std::filesystem::path& file) {
    auto path = file;
    path += ".receipt.json";
    return path;
}

uint64_t checkpointHash(const Checkpoint& checkpoint) {
    uint64_t hash = hashText("");
    const auto add = [&](std::span<const std::byte> bytes) { hash = hashBytes(bytes, hash); };
    for (const TensorInfo& info : checkpoint.tensors) {
        add(std::as_bytes(std::span(info.name)));
        add(std::as_bytes(std::span(info.dims)));
        const std::string stored = info.storedText();
        add(std::as_bytes(std::span(stored)));
        const auto bytes = (info.packed ? info.packed->codes : info.bytes).view();
        add(bytes.first(std::min(kSample, bytes.size())));
        add(bytes.last(std::min(kSample, bytes.size())));
    }
    return hash;
}

std::string receiptJson(const Model& model, const Recipe& recipe, std::string_view container,
                        const Calibration* calibration, const ExportNotes& notes) {
    const RecipeSize size = recipeSize(model, recipe, calibration);
    const std::string hash = !notes.calibration.empty() ? notes.calibration
                             : calibration              ? hashName(calibration->textHash)
                                                        : "";
    const Json out = {
        {"program", "Nibble"},
        {"version", NIBBLE_VERSION},
        {"container", container},
        {"base",
         {{"name", model.name},
          {"architecture", model.config.architecture},
          {"hash", hashName(checkpointHash(*model.checkpoint))},
          {"hash_of", "names, shapes, types and the first and last 4096 bytes of every tensor"}}},
        {"recipe", Json::parse(recipe.toJson())},
        {"recipe_hash", hashName(recipe.hash())},
        {"bytes", size.bytes},
        {"bits_per_weight", size.bitsPerWeight},
        {"calibration", hash.empty() ? Json() : Json{{"hash", hash}}},
        {"measurements", notes.measurements.empty() ? Json() : Json::parse(notes.measurements)}};
    return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string receiptText(const std::string& receipt, const ExportReport& report) {
    Json out = Json::parse(receipt);
    if (!report.damped.empty())
        out["damped"] = report.damped;
    return out.dump(2) + "\n";
}

ExportReport exportReport(const Quantizer& quantizer) {
    ExportReport out;
    for (const auto& [key, damping] : quantizer.damped())
        out.damped[tensorName(key)] = damping;
    return out;
}

} // namespace nibble
