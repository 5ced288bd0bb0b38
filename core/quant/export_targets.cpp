#include "core/quant/export_targets.h"

#include "core/base/error.h"

#include <nlohmann/json.hpp>

#include <fmt/format.h>

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

int groupSize(const Format& format) {
    return format.group == 0 ? -1 : format.group;
}

bool hasZeros(const Format& format) {
    return format.offset == OffsetKind::Zero;
}

Json gptqConfig(const FolderScheme& scheme) {
    const Format& f = *scheme.format;
    return {{"quant_method", "gptq"},
            {"checkpoint_format", "gptq"},
            {"bits", f.bits},
            {"group_size", groupSize(f)},
            {"desc_act", scheme.ordered},
            {"static_groups", false},
            {"sym", !hasZeros(f)},
            {"true_sequential", true},
            {"lm_head", false},
            {"pack_dtype", "int32"},
            {"meta", {{"quantizer", {"nibble:" NIBBLE_VERSION}}}}};
}

Json awqConfig(const FolderScheme& scheme) {
    return {{"quant_method", "awq"},       {"version", "gemm"},
            {"bits", scheme.format->bits}, {"group_size", groupSize(*scheme.format)},
            {"zero_point", true},          {"modules_to_not_convert", scheme.floatModules}};
}

Json compressedConfig(const FolderScheme& scheme) {
    const Format& f = *scheme.format;
    const bool isStatic = scheme.writer == &kStaticIntQuantizedWriter;
    const bool bytes = isStatic || scheme.writer == &kIntQuantizedWriter;
    const Json group = f.group == 0 ? Json() : Json(f.group);
    const Json weights = {
        {"num_bits", f.bits},         {"type", "int"},
        {"symmetric", !hasZeros(f)},  {"strategy", f.group == 0 ? "channel" : "group"},
        {"group_size", group},        {"actorder", nullptr},
        {"block_structure", nullptr}, {"dynamic", false},
        {"observer", "minmax"},       {"observer_kwargs", Json::object()}};
    const Json activations = {{"num_bits", 8},
                              {"type", "int"},
                              {"symmetric", true},
                              {"strategy", isStatic ? "tensor" : "token"},
                              {"group_size", nullptr},
                              {"actorder", nullptr},
                              {"block_structure", nullptr},
                              {"dynamic", !isStatic},
                              {"observer", isStatic ? Json("minmax") : Json()},
                              {"observer_kwargs", Json::object()}};
    Json layers = {{"targets", {"Linear"}}, {"weights", weights}};
    layers["input_activations"] = bytes ? activations : Json();
    layers["output_activations"] = nullptr;
    Json out = {{"quant_method", "compressed-tensors"}, {"format", scheme.writer->name}};
    out["quantization_status"] = "compressed";
    out["config_groups"]["group_0"] = layers;
    out["ignore"] = scheme.floatModules;
    out["kv_cache_scheme"] = nullptr;
    out["global_compression_ratio"] = nullptr;
    return out;
}

const PackingWriter& compressedWriter(const TensorChoice& choice) {
    if (choice.format->bits != 8 || choice.format->group != 0)
        return kPackQuantizedWriter;
    switch (choice.activations) {
    case ActivationFormat::Int8Token:
        return kIntQuantizedWriter;
    case ActivationFormat::Int8Static:
        return kStaticIntQuantizedWriter;
    default:
        return kPackQuantizedWriter;
    }
}

constexpr ExportTarget kTargets[] = {
    {"gptq", "GPTQ", "a GPTQ folder",
     "int4_g128, int4_g64, int4_g32 or int4 (also of 2, 3 and 8 bits, and with z for zero points)",
     false, [](const TensorChoice&) -> const PackingWriter& { return kGptqWriter; }, gptqConfig,
     "quantize_config.json", true},
    {"awq", "AWQ", "an AWQ folder", "int4_g128, int4_g64 or int4_g32 (also with z for zero points)",
     true, [](const TensorChoice&) -> const PackingWriter& { return kAwqWriter; }, awqConfig,
     nullptr},
    {"compressed-tensors", "compressed-tensors", "a compressed-tensors folder",
     "int4_g128, int4_g64, int4_g32, int4 or int8_g128 (also with z for zero points), or int8 with "
     "activations int8_token or int8_static",
     true, compressedWriter, compressedConfig, nullptr},
};

} // namespace

std::span<const ExportTarget> exportTargets() {
    return kTargets;
}

const ExportTarget& getExportTarget(std::string_view name) {
    for (const ExportTarget& target : kTargets)
        if (name == target.name)
            return target;
    fail(ErrorKind::Usage, "Files of the kind \"{}\" cannot be written; known kinds: {}.",
         printable(name), fmt::join(exportContainers(), ", "));
}

} // namespace nibble
