#pragma once

#include "core/runtime/options.h"
#include "core/tensor/tensor.h"

#include <memory>
#include <string>
#include <vector>

namespace nibble {

/// How the input of a product is prepared: products with equal forms share one preparation.
struct InputForm {
    ActivationFormat format = ActivationFormat::Float;
    float threshold = 0; ///< of Int8Outliers, else 0
    float scale = 0;     ///< of Int8Static, else 0
    /// Columns that are left out of the codes; null = none.
    std::shared_ptr<const std::vector<int32_t>> columns = {};

    bool isFloat() const { return format == ActivationFormat::Float; }
    bool hasOutliers() const { return threshold > 0 || columns; }
    /// "int8_outliers from 6, 3 outlier columns"
    std::string text() const;
    friend bool operator==(const InputForm& a, const InputForm& b);
};

/// What a product with this tensor wants. Error{Usage} naming it where Int8Static is asked for and
/// nothing has set its scale.
InputForm inputForm(const Tensor& tensor, const Activations& activations);

} // namespace nibble
