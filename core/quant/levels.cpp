#include "core/base/error.h"
#include "core/quant/recipe.h"

namespace nibble {
namespace {

/// One format for all matrices, and one for the two that touch every token's meaning.
Recipe uniform(const char* name, const char* format, const char* activations,
               const char* outerFormat, const char* outerActivations) {
    Recipe recipe;
    recipe.name = name;
    const auto rule = [&](const char* match, const char* ruleFormat, const char* ruleActivations) {
        RecipeRule& added = recipe.rules.emplace_back();
        added.match = match;
        added.format = ruleFormat;
        added.activations = ruleActivations;
    };
    rule("*", format, activations);
    if (std::string_view(outerFormat) != format) {
        rule("token_embd", outerFormat, outerActivations);
        rule("output", outerFormat, outerActivations);
    }
    return recipe;
}

constexpr Level kLevels[] = {
    {"f16", "F16", "16", "Half-precision floats throughout: the reference for every other level.",
     [] { return uniform("f16", "f16", "float", "f16", "float"); }},
    {"int8", "INT8", "I8",
     "8-bit weights with one scale a row, multiplied with 8-bit activations with one scale a "
     "token; embedding and head in 8 bits with a scale for 32 weights.",
     [] { return uniform("int8", "int8", "int8_token", "int8_g32", "int8"); }},
    {"q8_0", "Q8_0", "I8",
     "8-bit weights in blocks of 32, in the layout that llama.cpp and Ollama load; embedding and "
     "head alike.",
     [] { return uniform("q8_0", "q8_0", "int8", "q8_0", "int8"); }},
    {"int4", "INT4 g32", "I4",
     "4-bit weights with a scale for every 32; embedding and head keep 8 bits.",
     [] { return uniform("int4", "int4_g32", "int8", "int8_g32", "int8"); }},
    {"int4_g128", "INT4 g128", "I4",
     "4-bit weights with a scale for every 128: smaller and less exact; embedding and head keep 8 "
     "bits.",
     [] { return uniform("int4_g128", "int4_g128", "int8", "int8_g32", "int8"); }},
    {"q4_0", "Q4_0", "I4",
     "4-bit weights in blocks of 32, in the layout that llama.cpp and Ollama load; embedding and "
     "head in q8_0.",
     [] { return uniform("q4_0", "q4_0", "int8", "q8_0", "int8"); }},
};

} // namespace

std::span<const Level> levels() {
    return kLevels;
}

const Level& getLevel(std::string_view name) {
    std::string known;
    for (const Level& level : levels()) {
        if (name == level.name)
            return level;
        known += (known.empty() ? "" : ", ") + std::string(level.name);
    }
    fail(ErrorKind::Usage, "There is no level \"{}\". Known levels: {}.", printable(name), known);
}

Recipe levelRecipe(std::string_view name) {
    return getLevel(name).make();
}

std::string formatGlyph(const Format& format, std::string_view method) {
    if (format.isFloat())
        return std::to_string(format.bits);
    const std::string_view name = format.name;
    const auto family = [&]() -> char {
        if (method == "awq")
            return 'A';
        if (method == "gptq")
            return 'G';
        if (method == "hqq")
            return 'H';
        if (method == "llm_int8")
            return 'L';
        if (method == "smoothquant")
            return 'S';
        if (name.starts_with("nibble"))
            return 'N';
        if (name.starts_with("iq"))
            return 'Q';
        if (format.super != 0)
            return 'K';
        if (format.code == CodeKind::Table)
            return 'F';
        return 'I';
    }();
    return family + std::to_string(format.bits);
}

} // namespace nibble
