#pragma once

#include "core/quant/export_targets.h"

namespace nibble {

/// A recipe as one kind of folder can hold it, and a sentence on what that changed; empty =
/// nothing.
struct FolderGroups {
    Recipe recipe;
    std::string note;
};

/// Engines that load folders want one size of groups in all linear layers. Where the columns of
/// some do not divide into the groups that the recipe asks for, all take the largest smaller ones
/// that divide all. Error{Usage} naming the tensor where none do.
FolderGroups withOneGroup(const Model& model, Recipe recipe, const ExportTarget& target);

/// The rule that a recipe has for a tensor, or null.
const RecipeRule* ruleFor(const Recipe& recipe, TensorKey key);

/// Whether a tensor is one of the matrices of a layer.
bool isLinearLayer(TensorKey key);

} // namespace nibble
