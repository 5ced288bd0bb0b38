#pragma once

#include "core/model/model.h"

#include <span>

namespace nibble {

/// A tensor of the model as folders of its family keep it: what their norms are less by is taken
/// away, and of queries and keys, halves of a head that rotate together lie apart.
Tensor asInFolder(const Model& model, TensorKey key, Tensor tensor);

/// Tensors of one format and width behind each other, row by row or, of vectors, value by value:
/// bit-exactly. Error{Usage} where their columns have different orders.
Tensor joined(std::span<const Tensor> parts);

} // namespace nibble
