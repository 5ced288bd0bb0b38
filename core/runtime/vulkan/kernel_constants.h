#pragma once

#include <cstdint>
#include <map>

namespace nibble {

/// Specialization constants by id, values as bits.
using KernelConstants = std::map<uint32_t, uint32_t>;

} // namespace nibble
