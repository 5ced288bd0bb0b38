// The sum of products of four bytes each, both signed: with the dot-product instruction (-DDOT; the
// compiler has no name for it, so that it is given by its number), or with shifts. Where
// FIRST_IS_SIGNED says no, the first word's bytes are below 128 or not signed.
#ifndef FIRST_IS_SIGNED
#define FIRST_IS_SIGNED true
#endif

#ifdef DOT
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int signedDot(uint x, uint y, spirv_literal int format);

int dotBytes(uint c, uint x) {
    return signedDot(c, x, 0);
}
#else
int signedByte(uint word, int shift) {
    return int(word << (24 - shift)) >> 24;
}

int firstByte(uint word, int shift) {
    return FIRST_IS_SIGNED ? signedByte(word, shift) : int((word >> shift) & 255u);
}

int dotBytes(uint c, uint x) {
    return firstByte(c, 0) * signedByte(x, 0) + firstByte(c, 8) * signedByte(x, 8) +
           firstByte(c, 16) * signedByte(x, 16) + firstByte(c, 24) * signedByte(x, 24);
}
#endif
