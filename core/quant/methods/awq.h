#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Scales the channels of a product's input so that those with large activations keep more of their
/// precision (Lin et al. 2023, AWQ), then rounds with the channels' energies as weights, which also
/// finds where clipping pays.
extern const Method kAwq;

} // namespace nibble
