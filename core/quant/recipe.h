#pragma once

#include "core/model/model.h"
#include "core/quant/method.h"
#include "core/runtime/options.h"

#include <optional>
#include <string>
#include <vector>

namespace nibble {

/// How one tensor is stored and multiplied.
struct TensorChoice {
    const Format* format = nullptr; ///< null: as the base stores it
    const Method* method = nullptr;
    ActivationFormat activations = ActivationFormat::Float;
    float outlierThreshold = kOutlierThreshold; ///< where the method or activations have one
    friend bool operator==(const TensorChoice&, const TensorChoice&) = default;
};

/// One rule: tensors whose name (core/model/names.h) matches `match` get these. `match` is a glob
/// ("*", "blk.*.ffn_down", "blk.0.*"); the last matching rule wins. A layer's experts have one name
/// here ("blk.0.ffn_down"), and so one format; parts of one stored tensor have that of the last
/// rule that matches any of them.
struct RecipeRule {
    std::string match, format, method = "rtn", activations = "float";
    friend bool operator==(const RecipeRule&, const RecipeRule&) = default;
};

/// Per tensor: format, method and activation format; plus the formats of K and V. Small, JSON,
/// undoable. A level is a named recipe. Norms, biases and RoPE factors are always f32.
struct Recipe {
    std::string name; ///< level name, or the user's own
    std::vector<RecipeRule> rules;
    KvFormat kFormat = KvFormat::F16, vFormat = KvFormat::F16;
    /// Activations of this magnitude and more are outliers for LLM.int8(): its columns (method
    /// llm_int8) and its activations (int8_outliers). Larger than 0.
    float outlierThreshold = kOutlierThreshold;
    friend bool operator==(const Recipe&, const Recipe&) = default;

    /// What this recipe says of a tensor of this model; where it says nothing, the tensor stays as
    /// it is, with the activations that a folder of 8-bit activations was made for. A format whose
    /// group or block does not divide the row falls back to one that does (the choice says so by
    /// its format). Error{Usage} for unknown names.
    TensorChoice choose(const Model& model, TensorKey key) const;
    /// Adds or replaces the rule for exactly this tensor.
    void set(TensorKey key, RecipeRule rule);

    std::string toJson() const;
    /// Error{BadInput} that names `source` and the field.
    static Recipe fromJson(std::string_view text, std::string_view source);
    uint64_t hash() const;
};

/// A named recipe: one row in levels().
struct Level {
    const char* name;  ///< "int4_g128"
    const char* title; ///< "INT4 g128"
    const char* glyph; ///< strip glyph of its main format, "I4"
    const char* about; ///< one sentence for people
    /// A mix gives more bits to some layers, so that it needs the model.
    Recipe (*make)(const Model& model);
};
std::span<const Level> levels();
/// Error{Usage} that lists the known names.
const Level& getLevel(std::string_view name);
Recipe levelRecipe(std::string_view name, const Model& model);
/// With plain rounding weighted by a calibration: what a calibration that somebody names is for
/// where no method of the recipe asks for one.
Recipe weightedRecipe(Recipe recipe);

/// Glyph of a format in the layer strip: letter of the family and digit of the bits ("I4", "K6",
/// "16").
std::string formatGlyph(const Format& format, std::string_view method);

/// The formats that a person may choose for one matrix with rows of `cols` values: those that some
/// method makes and whose groups divide the row, from small to large.
std::vector<const Format*> choosableFormats(int64_t cols);

/// Size of a model under a recipe. How many outlier columns there are only a calibration says:
/// without one they count as the most that the method may keep.
struct RecipeSize {
    uint64_t bytes = 0; ///< all tensors by exact bits (what a file needs, without its header)
    uint64_t residentBytes = 0; ///< planes as kept in memory
    double bitsPerWeight = 0;   ///< bytes · 8 / parameters
    bool isUpperBound = false;  ///< outlier columns are estimated
};
RecipeSize recipeSize(const Model& model, const Recipe& recipe,
                      const Calibration* calibration = nullptr);
/// Plane bytes of one tensor under a recipe.
uint64_t recipeBytes(const Model& model, const Recipe& recipe, TensorKey key,
                     const Calibration* calibration = nullptr);
/// Bytes of one tensor in a file under a recipe.
uint64_t recipeFileBytes(const Model& model, const Recipe& recipe, TensorKey key,
                         const Calibration* calibration = nullptr);

/// The variant's tensor: the base's own when the choice keeps it, else quantized from it.
Tensor variantTensor(const Model& model, const Recipe& recipe, TensorKey key,
                     const Progress& progress = {},
                     std::shared_ptr<const Calibration> calibration = nullptr);

/// What went with an export that neither the model nor the recipe says.
struct ExportNotes {
    std::string calibration;  ///< hash of the calibration text; empty = none was used
    std::string measurements; ///< a JSON object of what was measured; empty = nothing was
};

/// What is worth knowing of how an export went.
struct ExportReport {
    /// Matrices by name whose calibration needed more damping than the method asks for, and how
    /// much, as a fraction of the mean energy.
    std::map<std::string, double> damped;
};

/// Writes the variant as a GGUF file that other engines load, and its receipt beside it
/// (receipt.h); Error{Usage} naming the tensor, and levels that fit, when a chosen format has no
/// GGUF type. Tensors are quantized one at a time.
ExportReport exportGguf(const Model& model, const Recipe& recipe, const std::filesystem::path& path,
                        const Progress& progress = {},
                        std::shared_ptr<const Calibration> calibration = nullptr,
                        const ExportNotes& notes = {});

/// Writes the variant as a folder that vLLM and TGI load: "gptq", "awq" or "compressed-tensors"
/// (export_targets.h), with config, tokenizer and receipt, in several files when the weights take
/// more than `shardBytes`. Error{Usage} naming tensor, format and what would fit when the recipe
/// does not. The folder appears when it is complete; of an earlier export of that name the files
/// that it wrote are replaced, and all others stay.
ExportReport exportFolder(const Model& model, const Recipe& recipe, std::string_view kind,
                          const std::filesystem::path& path, const Progress& progress = {},
                          std::shared_ptr<const Calibration> calibration = nullptr,
                          const ExportNotes& notes = {}, uint64_t shardBytes = 2'000'000'000);
/// The kinds of files that are written: "gguf", and the folders of export_targets.h.
std::vector<std::string_view> exportContainers();
/// The levels of a model that such a file can hold.
std::vector<const Level*> levelsFor(const Model& model, std::string_view container);
/// Throws what exportFolder throws for a recipe that the kind of folder cannot hold.
void requireFolderFits(const Model& model, const Recipe& recipe, std::string_view kind);
/// The recipe with embedding and head in f16, as the engines of such folders want them.
Recipe folderRecipe(Recipe recipe);

} // namespace nibble
