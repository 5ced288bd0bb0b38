#include "core/evaluate/quality.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace nibble {
namespace {

/// JSON has no infinity: an exact layer's SQNR becomes null.
nlohmann::ordered_json number(double value) {
    return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

} // namespace

std::string toJson(const QualityReport& report) {
    nlohmann::ordered_json json;
    json["ppl"] = number(report.ppl);
    json["ppl_error"] = number(report.pplError);
    const auto measured = [&](double value) {
        return report.hasReference ? number(value) : nlohmann::ordered_json();
    };
    json["kld_mean"] = measured(report.kldMean);
    json["kld_error"] = measured(report.kldError);
    json["kld_median"] = measured(report.kldMedian);
    json["kld_p99"] = measured(report.kldP99);
    json["kld_max"] = measured(report.kldMax);
    json["same_top"] = measured(report.sameTop);
    json["same_top_error"] = measured(report.sameTopError);
    json["ppl_ratio"] = measured(report.pplRatio);
    json["tokens"] = report.tokens;
    json["windows"] = report.windows;
    json["context"] = report.context;
    json["bytes"] = report.bytes;
    json["bits_per_weight"] = number(report.bitsPerWeight);
    json["level"] = report.level;
    json["device"] = report.device;
    json["text"] = report.text;
    json["text_hash"] = report.textHash;
    json["recipe_hash"] = report.recipeHash;
    json["seconds"] = number(report.seconds);
    json["layers"] = nlohmann::ordered_json::array();
    for (const LayerError& layer : report.layers)
        json["layers"].push_back({{"layer", layer.layer},
                                  {"relative_error", number(layer.relativeError)},
                                  {"sqnr", number(layer.sqnr)},
                                  {"cosine", number(layer.cosine)}});
    return json.dump();
}

} // namespace nibble
