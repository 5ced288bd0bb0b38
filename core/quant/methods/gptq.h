#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Rounds column by column and lets the columns that follow make up for the error, so that the
/// product's output, not the weight, comes closest (Frantar et al. 2022). Scales are fitted before
/// with the inputs' energies as weights and stay, so that columns may be rounded in the order of
/// their energy without a column order in the file.
extern const Method kGptq;

/// The order of the columns and the factor that GPTQ uses with an input of these moments.
FeedbackFactor gptqFeedback(const Moments& moments);

} // namespace nibble
