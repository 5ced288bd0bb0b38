#include "core/base/error.h"
#include "core/quant/methods/rtn.h"
#include "core/quant/mixes.h"
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

/// uniform() whose layers are made by `method`.
Recipe made(const char* method, Recipe recipe) {
    recipe.rules.front().method = method;
    return recipe;
}

/// Our own: the method everywhere, the embedding and the head included.
Recipe throughout(const char* method, Recipe recipe) {
    for (RecipeRule& rule : recipe.rules)
        rule.method = method;
    return recipe;
}

Recipe named(const char* name, Recipe recipe) {
    recipe.name = name;
    return recipe;
}

constexpr Level kLevels[] = {
    {"f16", "F16", "16", "Half-precision floats throughout: the reference for every other level.",
     [](const Model&) { return uniform("f16", "f16", "float", "f16", "float"); }},
    {"int8", "INT8", "I8",
     "8-bit weights with one scale a row, multiplied with 8-bit activations with one scale a "
     "token; embedding and head in 8 bits with a scale for 32 weights.",
     [](const Model&) { return uniform("int8", "int8", "int8_token", "int8_g32", "int8"); }},
    {"llm_int8", "LLM.int8()", "L8",
     "INT8 as above, but channels whose activations reached magnitude 6 on a calibration text keep "
     "their weights in 16 bits, and other activations that reach it are multiplied as floats: for "
     "models with a few very large channels.",
     [](const Model&) {
         return made("llm_int8", uniform("llm_int8", "int8", "int8_outliers", "int8_g32", "int8"));
     }},
    {"smoothquant", "SmoothQuant", "S8",
     "INT8 weights and activations after a calibration text has shown where activations stick out: "
     "scales move those outliers into the weights.",
     [](const Model&) {
         return made("smoothquant",
                     uniform("smoothquant", "int8", "int8_token", "int8_g32", "int8"));
     }},
    {"smoothquant_static", "SmoothQuant static", "S8",
     "SmoothQuant with one activation scale for all tokens, found on the calibration text: what "
     "engines run fastest, and nothing is measured while running.",
     [](const Model&) {
         return made("smoothquant",
                     uniform("smoothquant_static", "int8", "int8_static", "int8_g32", "int8"));
     }},
    {"nibble8", "Nibble 8", "G8",
     "8-bit weights with an 8-bit scale for every 128, rounded so that errors cancel on a "
     "calibration text: smaller than Q8_0.",
     [](const Model&) {
         return throughout("gptq",
                           uniform("nibble8", "int8_g128_s8", "int8", "int8_g128_s8", "int8"));
     }},
    {"q8_0", "Q8_0", "I8",
     "8-bit weights in blocks of 32, in the layout that llama.cpp and Ollama load; embedding and "
     "head alike.",
     [](const Model&) { return uniform("q8_0", "q8_0", "int8", "q8_0", "int8"); }},
    {"q6_k", "Q6_K", "K6",
     "6-bit weights in every matrix, with scales that are coded themselves, in the layout that "
     "llama.cpp and Ollama load; hard to tell from the base.",
     [](const Model& model) { return mixRecipe(model, "q6_k"); }},
    {"q5_k_m", "Q5_K_M", "K5",
     "5-bit weights with coded scales and offsets; the values and the second feed-forward matrix "
     "of half the layers, and the head, in 6 bits; in the layout that llama.cpp and Ollama load.",
     [](const Model& model) { return mixRecipe(model, "q5_k_m"); }},
    {"q4_k_m", "Q4_K_M", "K4",
     "4-bit weights with coded scales and offsets; the values and the second feed-forward matrix "
     "of half the layers, and the head, in 6 bits: what most people download for llama.cpp and "
     "Ollama.",
     [](const Model& model) { return mixRecipe(model, "q4_k_m"); }},
    {"q4_k_m_imatrix", "Q4_K_M imatrix", "K4",
     "Q4_K_M with each weight's error counted by how much flows through it on a calibration text, "
     "as llama.cpp does with an importance matrix.",
     [](const Model& model) {
         return throughout("imatrix", named("q4_k_m_imatrix", mixRecipe(model, "q4_k_m")));
     }},
    {"q4_k_s", "Q4_K_S", "K4",
     "4-bit weights with coded scales and offsets, 5 bits in a few matrices of the first layers "
     "and 6 in the head; a little smaller and less exact than Q4_K_M.",
     [](const Model& model) { return mixRecipe(model, "q4_k_s"); }},
    {"int4", "INT4 g32", "I4",
     "4-bit weights with a scale for every 32; embedding and head keep 8 bits.",
     [](const Model&) { return uniform("int4", "int4_g32", "int8", "int8_g32", "int8"); }},
    {"q4_0", "Q4_0", "I4",
     "4-bit weights in blocks of 32, in the layout that llama.cpp and Ollama load; embedding and "
     "head in q8_0.",
     [](const Model&) { return uniform("q4_0", "q4_0", "int8", "q8_0", "int8"); }},
    {"nibble4", "Nibble 4", "N4",
     "4-bit weights on 16 uneven values with an 8-bit scale for every 32, rounded so that errors "
     "cancel on a calibration text; the head in 6 bits.",
     [](const Model&) {
         return throughout("gptq", uniform("nibble4", "nibble4", "int8", "q6_k", "int8"));
     }},
    {"nibble4_gguf", "Nibble 4 GGUF", "G4",
     "The same rounding in the blocks of IQ4_XS and Q6_K, so that llama.cpp loads the result: "
     "nearly what Nibble 4 keeps, and it survives the export.",
     [](const Model&) {
         return throughout("gptq", uniform("nibble4_gguf", "iq4_xs", "int8", "q6_k", "int8"));
     }},
    {"hqq", "HQQ", "H4",
     "4-bit weights with a float scale and zero point for every 64, fitted without any text; "
     "embedding and head keep 8 bits.",
     [](const Model&) { return made("hqq", uniform("hqq", "hqq4", "int8", "int8_g32", "int8")); }},
    {"nf4", "NF4", "F4",
     "4-bit weights on the quantiles of a normal distribution, a scale for every 64, as published "
     "with QLoRA and made by bitsandbytes; embedding and head keep 8 bits.",
     [](const Model&) {
         return made("absmax", uniform("nf4", "nf4", "int8", "int8_g32", "int8"));
     }},
    {"nf4_dq", "NF4 double", "F4",
     "NF4 whose scales are coded in 8 bits themselves (double quantization), as published with "
     "QLoRA; embedding and head keep 8 bits.",
     [](const Model&) {
         return made("absmax", uniform("nf4_dq", "nf4_dq", "int8", "int8_g32", "int8"));
     }},
    {"nf4_search", "NF4 searched", "F4",
     "NF4 with scales coded in 8 bits that are searched for: those that lose least squares, "
     "instead of the largest weight of 64; embedding and head keep 8 bits.",
     [](const Model&) { return uniform("nf4_search", "nf4_dq", "int8", "int8_g32", "int8"); }},
    {"iq4_xs", "IQ4_XS", "Q4",
     "4-bit weights on unevenly spaced values with coded scales: nearly as exact as Q4_K_S and "
     "smaller; the head in 6 bits; in the layout that llama.cpp loads.",
     [](const Model& model) { return mixRecipe(model, "iq4_xs"); }},
    {"iq4_xs_imatrix", "IQ4_XS imatrix", "Q4",
     "IQ4_XS with each weight's error counted by how much flows through it on a calibration text, "
     "as llama.cpp does with an importance matrix.",
     [](const Model& model) {
         return throughout("imatrix", named("iq4_xs_imatrix", mixRecipe(model, "iq4_xs")));
     }},
    {"gptq", "GPTQ g128", "G4",
     "4-bit weights with a scale for every 128, rounded column by column so that errors cancel on "
     "a calibration text; embedding and head keep 8 bits.",
     [](const Model&) {
         return made("gptq", uniform("gptq", "int4_g128", "int8", "int8_g32", "int8"));
     }},
    {"awq", "AWQ g128", "A4",
     "4-bit weights with a scale and a zero point for every 128, after a calibration text has "
     "shown "
     "which channels need more precision; embedding and head keep 8 bits.",
     [](const Model&) {
         return made("awq", uniform("awq", "int4_g128z", "int8", "int8_g32", "int8"));
     }},
    {"int4_g128", "INT4 g128", "I4",
     "4-bit weights with a scale for every 128: smaller and less exact; embedding and head keep 8 "
     "bits.",
     [](const Model&) { return uniform("int4_g128", "int4_g128", "int8", "int8_g32", "int8"); }},
    {"q3_k_m", "Q3_K_M", "K3",
     "3-bit weights with coded scales, 4 or 5 bits in the more sensitive matrices and 6 in the "
     "head: a visible loss, for models that would not fit otherwise.",
     [](const Model& model) { return mixRecipe(model, "q3_k_m"); }},
    {"q2_k", "Q2_K", "K2",
     "2-bit weights with coded scales and offsets, 3 or 4 bits in the more sensitive matrices and "
     "6 in the head: a severe loss, a last resort for large models.",
     [](const Model& model) { return mixRecipe(model, "q2_k"); }},
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

Recipe weightedRecipe(Recipe recipe) {
    for (RecipeRule& rule : recipe.rules)
        if (rule.method == kRtn.name)
            rule.method = kImatrix.name;
    return recipe;
}

Recipe levelRecipe(std::string_view name, const Model& model) {
    return getLevel(name).make(model);
}

std::string formatGlyph(const Format& format, std::string_view method) {
    if (format.isFloat())
        return std::to_string(format.bits);
    const std::string_view name = format.name;
    const auto family = [&]() -> char {
        if (name.starts_with("nibble"))
            return 'N';
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
        if (name.starts_with("iq"))
            return 'Q';
        if (format.code == CodeKind::Table)
            return 'F';
        if (name.ends_with("_k"))
            return 'K';
        return 'I';
    }();
    return family + std::to_string(format.bits);
}

} // namespace nibble
