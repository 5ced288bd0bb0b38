#ifndef NIBBLE_NUMBERS_GLSL
#define NIBBLE_NUMBERS_GLSL
// Arithmetic that has to give the same bits on every driver.

// float32 to float16 bits, to nearest even: packHalf2x16 leaves the rounding to the driver.
uint roundToHalf(float value) {
    uint bits = floatBitsToUint(value);
    uint sign = (bits >> 16) & 0x8000u;
    uint magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u)
        return sign | (floatBitsToUint(uintBitsToFloat(magnitude) + 0.5) - 0x3f000000u);
    return sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13);
}

// To the nearest integer, halves away from zero; adding 0.5 first would round up 0.49999997.
int roundAway(float x) {
    float whole = trunc(x);
    return int(whole) + (abs(x - whole) >= 0.5 ? (x < 0.0 ? -1 : 1) : 0);
}

// a / b to the nearest float: drivers may divide by multiplying with a reciprocal, and then codes
// differ from other backends'. One correction with the exact remainder, products of halved operands
// being exact.
float divide(float x, float y) {
    precise float q = x / y;
    precise float qh = uintBitsToFloat(floatBitsToUint(q) & 0xfffff000u);
    precise float yh = uintBitsToFloat(floatBitsToUint(y) & 0xfffff000u);
    precise float ql = q - qh;
    precise float yl = y - yh;
    precise float rest = (((x - qh * yh) - qh * yl) - ql * yh) - ql * yl;
    precise float exact = q + rest / y;
    return exact;
}

// A NaN or infinity has no code; as the scale it spreads to the whole result.
bool isBroken(float x) {
    return (floatBitsToUint(x) & 0x7f800000u) == 0x7f800000u;
}
#endif
