#include "core/quant/row_block.h"

#include "core/base/vector_width.h"

namespace nibble {

NIBBLE_EVERY_VECTOR_WIDTH
void sumColumns(const float* factors, const float* columns, int64_t count, float* sums) {
    float even[kBlockRows] = {}, odd[kBlockRows] = {};
    int64_t j = 0;
    for (; j + 2 <= count; j += 2)
        for (int64_t r = 0; r < kBlockRows; ++r) {
            even[r] += factors[j] * columns[j * kBlockRows + r];
            odd[r] += factors[j + 1] * columns[(j + 1) * kBlockRows + r];
        }
    for (int64_t r = 0; r < kBlockRows; ++r)
        sums[r] = even[r] + odd[r] + (j < count ? factors[j] * columns[j * kBlockRows + r] : 0);
}

} // namespace nibble
