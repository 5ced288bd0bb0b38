#pragma once

#include "core/model/architectures.h"

#include <nlohmann/json.hpp>

/// What the families' writers of config.json share.
namespace nibble {

/// Throws Error{Usage}: no config.json of the model's family can say `what`.
[[noreturn]] void cannotSay(const Model& model, std::string_view what);

/// The shortest decimals that are this float.
double shortest(float value);
/// The float that has this reciprocal.
float reciprocalOf(float value);

/// A cap, or null where there is none.
nlohmann::ordered_json capOrNull(float cap);
/// What config.json says of a model's rotation: "rope_scaling", and what stands beside it.
void writeRope(const Model& model, nlohmann::ordered_json& out);
/// "attention_bias" and "mlp_bias".
void writeBiases(const Model& model, nlohmann::ordered_json& out);
/// Refuses biases that the family does not have; of queries, keys and values where `ofQueries`.
void refuseBiases(const Model& model, bool ofQueries);
/// "sliding_window": that of all layers, or null.
void writeWindow(const Model& model, nlohmann::ordered_json& out);
/// "layer_types" as well, where only some layers have the window.
void writeLayerTypes(const Model& model, nlohmann::ordered_json& out);
/// Windows as the qwen families say them (readUpperWindows).
void writeUpperWindows(const Model& model, nlohmann::ordered_json& out);
/// The mixture's keys of the qwen families.
void writeQwenExperts(const Model& model, nlohmann::ordered_json& out);
/// "query_pre_attn_scalar", of which the root divides q · k.
void writeQueryScalar(const Model& model, nlohmann::ordered_json& out);

/// What of two configs differs, as a few words ("the base of the rotation"); empty when a forward
/// pass gives the same with both. How the rows of heads are ordered does not count.
std::string configDifference(const ModelConfig& a, const ModelConfig& b);

} // namespace nibble
