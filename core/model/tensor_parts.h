#pragma once

#include "core/files/checkpoint.h"

#include <functional>
#include <string>
#include <vector>

/// Tensors of a model that are parts of a stored one, or made from it when they are loaded.
namespace nibble {

struct Shape {
    int64_t rows, cols; ///< of a vector: one row
};

/// `shape.rows` rows of a stored tensor from row `first` on. What has factors, or is packed so that
/// rows cannot be loaded alone, is loaded whole and then cut.
TensorInfo rowsOf(const TensorInfo& stored, int64_t first, Shape shape);

/// A tensor that is not what the file holds: its values are made when it is loaded.
TensorInfo derived(const TensorInfo& stored, std::vector<int64_t> dims,
                   std::function<std::vector<float>(const std::vector<float>&)> change);

/// The dims of a tensor that holds the experts' parts of `shape`, `turns` of each expert (see
/// Architecture::folderStacksExperts).
std::vector<int64_t> stackDims(const TensorInfo& stored, int64_t experts, Shape shape,
                               int64_t turns);
/// Part number `turn` of one expert of such a tensor.
TensorInfo stackPart(const TensorInfo& stored, int64_t expert, Shape shape, int64_t turn,
                     int64_t turns);

} // namespace nibble
