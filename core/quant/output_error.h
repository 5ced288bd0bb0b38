#pragma once

#include "core/quant/quantizer.h"

namespace nibble {

/// What a recipe does to one matrix, as a fraction of what the matrix gives.
struct OutputError {
    double product =
        0; ///< E‖ŷ − y‖² / E‖y‖² over the calibration's inputs, rounding of them included
    double lookup = 0; ///< ‖Ŵ − W‖² / ‖W‖² of an embedding table
};

/// Estimated from `rows` of the matrix's rows, spread evenly. A table that is also the head has
/// both errors. Without moments, channels are taken as independent. Error{Usage} for a product that
/// was not calibrated.
OutputError outputError(Quantizer& quantizer, const Model& model, const Recipe& recipe,
                        const Calibration& calibration, TensorKey key, int64_t rows = 64,
                        const Progress& progress = {});

} // namespace nibble
