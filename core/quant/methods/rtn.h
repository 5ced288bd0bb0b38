#pragma once

#include "core/quant/method.h"

namespace nibble {

/// Round to nearest with a searched scale for each group; needs no data.
extern const Method kRtn;

} // namespace nibble
