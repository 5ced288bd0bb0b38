#include "core/runtime/cpu/scalar_products.h"

#include "core/tensor/planes.h"

#include <cmath>
#include <vector>

namespace nibble {
namespace {

/// Codes of a row as the integers that are multiplied.
void integerCodes(const Tensor& tensor, int64_t row, std::vector<uint8_t>& raw,
                  std::vector<int32_t>& out) {
    const Format& format = *tensor.format;
    unpackCodes(tensor, row, raw.data());
    for (int64_t i = 0; i < tensor.cols; ++i) {
        const uint8_t code = raw[static_cast<size_t>(i)];
        out[static_cast<size_t>(i)] = format.table       ? format.table->integer[code & 15]
                                      : format.bits == 8 ? static_cast<int8_t>(code)
                                                         : static_cast<int>(code);
    }
}

/// Σ codes · activations and Σ activations over [begin, end).
struct IntegerSums {
    int32_t product = 0, sum = 0;
};
IntegerSums integerSums(const std::vector<int32_t>& codes, const int8_t* x, int64_t begin,
                        int64_t end) {
    IntegerSums sums;
    for (int64_t i = begin; i < end; ++i) {
        sums.product += codes[static_cast<size_t>(i)] * x[i];
        sums.sum += x[i];
    }
    return sums;
}

} // namespace

void scalarIntegerProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                          int64_t end, float* out, int64_t stride) {
    const Tensor& tensor = *weights.tensor;
    const Format& format = *tensor.format;
    const Int8Rows x = input.int8(weights.activations);
    const int64_t length = format.groupLength(tensor.cols);
    std::vector<uint8_t> raw(static_cast<size_t>(tensor.cols));
    std::vector<int32_t> codes(static_cast<size_t>(tensor.cols));
    for (int64_t row = begin; row < end; ++row) {
        integerCodes(tensor, row, raw, codes);
        for (int64_t m = 0; m < input.rows(); ++m) {
            const int8_t* xm = x.codes + m * input.stride();
            const float* xScales = x.scales + m * (input.stride() / 32);
            float sum = 0;
            for (int64_t block = 0; block < tensor.blocks(); ++block) {
                // Groups of 16: two of a block are added before the activation scale is applied.
                const int64_t blockEnd = std::min(tensor.cols, block * 32 + 32);
                float value = 0;
                for (int64_t at = block * 32; at < blockEnd;) {
                    const int64_t partEnd = std::min(blockEnd, (at / length + 1) * length);
                    const GroupValues g = groupValues(tensor, row, at / length);
                    const IntegerSums s = integerSums(codes, xm, at, partEnd);
                    const auto scale = static_cast<float>(format.unit * g.scale);
                    value = std::fma(static_cast<float>(s.product - g.zero * s.sum), scale, value);
                    value = std::fma(g.offset, static_cast<float>(s.sum), value);
                    at = partEnd;
                }
                sum = std::fma(value, xScales[block], sum);
            }
            out[m * stride + row] = sum;
        }
    }
}

void scalarFloatProduct(const WeightView& weights, const ActivationRows& input, int64_t begin,
                        int64_t end, float* out, int64_t stride) {
    const Tensor& tensor = *weights.tensor;
    std::vector<float> values(static_cast<size_t>(tensor.cols));
    for (int64_t row = begin; row < end; ++row) {
        decodeRows(tensor, row, row + 1, values.data());
        for (int64_t m = 0; m < input.rows(); ++m) {
            const float* x = input.row(m);
            double sum = 0;
            for (int64_t i = 0; i < tensor.cols; ++i)
                sum += double(values[static_cast<size_t>(i)]) * double(x[i]);
            out[m * stride + row] = static_cast<float>(sum);
        }
    }
}

} // namespace nibble
