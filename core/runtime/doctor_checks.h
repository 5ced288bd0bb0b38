#pragma once

#include "core/runtime/backend.h"

#include <optional>

namespace nibble {

/// Activation rows × a matrix of outputs rows and inputs columns.
struct ProductShape {
    int32_t rows = 1, inputs = 256, outputs = 40;
    int32_t outlierColumns = 0; ///< in formats whose code 0 is 0
};

/// The largest difference of a product of random numbers from the reference's, as a fraction of
/// what rounding allows: at most 1 when the kernel is right, infinite when it gives no number.
/// Nothing when the backend has no kernel for the format and converts it.
std::optional<double> productError(Backend& backend, Backend& reference, const Format& format,
                                   const Activations& activations, ProductShape shape);

/// The relative difference of one whole layer's rows from the reference's, over a prompt of `rows`
/// tokens and the token after it; at most layerBound() when every step is right.
double layerError(Backend& backend, Backend& reference, int32_t rows, KvFormat k, KvFormat v);
double layerBound(KvFormat k, KvFormat v);

} // namespace nibble
