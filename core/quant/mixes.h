#pragma once

#include "core/quant/recipe.h"

namespace nibble {

/// The recipe of a well-known mix of k-quants ("q4_k_m"): which matrices of which layers get more
/// bits than the others, as llama.cpp's quantizer chooses them without an importance matrix.
Recipe mixRecipe(const Model& model, std::string_view name);

} // namespace nibble
