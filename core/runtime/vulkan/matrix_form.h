#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

/// A module that uses SPV_NV_cooperative_matrix as one that uses SPV_KHR_cooperative_matrix, which
/// more devices have and today's distributions' compilers do not write. The uses (A, B,
/// accumulator) that the KHR form names in a matrix type are taken from the multiplications;
/// integer matrices are signed. Error{Internal} where one type is used in two ways, or the module
/// is cut short. Source: the two extensions' specifications in the SPIR-V registry.
std::vector<uint32_t> toKhrMatrices(std::span<const uint32_t> module);

} // namespace nibble
