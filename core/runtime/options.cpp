#include "core/runtime/options.h"

#include "core/base/error.h"

#include <array>

namespace nibble {
namespace {

struct ActivationName {
    ActivationFormat format;
    std::string_view name;
    int block;
};
constexpr std::array<ActivationName, kActivationFormats> kActivations{{
    {ActivationFormat::Float, "float", 0},
    {ActivationFormat::Int8Block32, "int8", 32},
    {ActivationFormat::Int8Block64, "int8_64", 64},
    {ActivationFormat::Int8Block128, "int8_128", 128},
    {ActivationFormat::Int8Token, "int8_token", 0},
    {ActivationFormat::Int8Outliers, "int8_outliers", 0},
    {ActivationFormat::Int8Static, "int8_static", 0},
}};

struct KvName {
    KvFormat format;
    std::string_view name;
    double bits;
};
constexpr std::array<KvName, 4> kKvFormats{{
    {KvFormat::F32, "f32", 32},
    {KvFormat::F16, "f16", 16},
    {KvFormat::Int8, "int8", 8.5},
    {KvFormat::Int4, "int4", 4.5},
}};

} // namespace

std::string_view name(ActivationFormat format) {
    return kActivations[static_cast<size_t>(format)].name;
}

ActivationFormat activationFormat(std::string_view name) {
    std::string known;
    for (const ActivationName& row : kActivations) {
        if (row.name == name)
            return row.format;
        known += std::string(known.empty() ? "" : ", ").append(row.name);
    }
    fail(ErrorKind::Usage, "There is no activation format \"{}\". Known: {}.", printable(name),
         known);
}

int activationBlock(ActivationFormat format) {
    return kActivations[static_cast<size_t>(format)].block;
}

std::string_view name(KvFormat format) {
    return kKvFormats[static_cast<size_t>(format)].name;
}

KvFormat kvFormat(std::string_view name) {
    std::string known;
    for (const KvName& row : kKvFormats) {
        if (row.name == name)
            return row.format;
        known += std::string(known.empty() ? "" : ", ").append(row.name);
    }
    fail(ErrorKind::Usage, "There is no cache format \"{}\". Known: {}.", printable(name), known);
}

double bitsPerValue(KvFormat format) {
    return kKvFormats[static_cast<size_t>(format)].bits;
}

} // namespace nibble
