#include "core/files/block_codecs.h"

/// tq1_0: 256 ternary digits in base 3, five a byte (48 bytes), the last 16 four a byte (4 bytes).
/// A byte holds ⌈256 · t / 243⌉, so that digits come out by multiplication. The 13 byte values that
/// no writer makes are aliases: they decode, and are written back in the canonical form.
namespace nibble::blocks {
namespace {

/// `bytes` bytes from `first`; digit n of byte m is value `value + n · bytes + m`.
struct Run {
    int first, bytes, digits, value;
};
constexpr Run kRuns[] = {{0, 32, 5, 0}, {32, 16, 5, 160}, {48, 4, 4, 240}};

} // namespace

void fromTq1_0(const std::byte* blocks, int64_t row, int64_t count, TensorBuilder& out) {
    readRow<256, 54>(blocks, row, count, out, [&](const uint8_t* b, uint8_t* codes, int64_t i) {
        for (const Run& run : kRuns)
            for (int m = 0; m < run.bytes; ++m) {
                unsigned rest = b[run.first + m];
                for (int n = 0; n < run.digits; ++n) {
                    codes[run.value + n * run.bytes + m] = static_cast<uint8_t>(rest * 3 >> 8);
                    rest = rest * 3 & 255;
                }
            }
        out.setScale(row, i, loadHalf(b + 52));
    });
}

void toTq1_0(const Tensor& t, int64_t row, std::byte* blocks) {
    writeRow<256, 54>(t, row, blocks, [&](const uint8_t* codes, uint8_t* b, int64_t i) {
        for (const Run& run : kRuns)
            for (int m = 0; m < run.bytes; ++m) {
                unsigned number = 0;
                for (int n = 0; n < 5; ++n)
                    number =
                        number * 3 + (n < run.digits ? codes[run.value + n * run.bytes + m] : 0u);
                b[run.first + m] = static_cast<uint8_t>((number * 256 + 242) / 243);
            }
        storeHalf(b + 52, static_cast<uint16_t>(rawScale(t, row, i)));
    });
}

} // namespace nibble::blocks
