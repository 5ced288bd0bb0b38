#pragma once

#include <cstdint>

/// Sixteen rows side by side, one vector register of numbers a column: what is done to all rows of
/// a matrix with one large square matrix reads that once for all of them.
namespace nibble {

constexpr int64_t kBlockRows = 16;

/// sums[r] = Σ_{j < count} factors[j] · columns[j][r]
void sumColumns(const float* factors, const float* columns, int64_t count, float* sums);

} // namespace nibble
