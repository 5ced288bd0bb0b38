// All vector kernels, over the lanes (V, I, kLanes, load, fma, dot, …) that the including file
// defines for its instruction set, and which of them multiplies with a format.

#include "core/runtime/cpu/lanes.inl"
// What follows is written with it.
#include "core/runtime/cpu/attend.inl"
#include "core/runtime/cpu/float_rows.inl"
#include "core/runtime/cpu/tile_source.inl"
// The tile products read tile sources.
#include "core/runtime/cpu/tile_floats.inl"
#include "core/runtime/cpu/tile_products.inl"

namespace nibble {
namespace {

ProductKernel floatKernel(const Format& format) {
    switch (format.bits) {
    case 2:
        return floatTileProduct<2, false>;
    case 3:
        return floatTileProduct<3, false>;
    case 4:
        return format.table ? floatTileProduct<4, true> : floatTileProduct<4, false>;
    case 5:
        return floatTileProduct<5, false>;
    case 6:
        return floatTileProduct<6, false>;
    default:
        return floatTileProduct<8, false>;
    }
}

ProductKernel integerKernel(const Format& format) {
    switch (format.bits) {
    case 2:
        return tileKernel<2>(format);
    case 3:
        return tileKernel<3>(format);
    case 4:
        return format.table ? tileKernel<4, true>(format) : tileKernel<4>(format);
    case 5:
        return tileKernel<5>(format);
    case 6:
        return tileKernel<6>(format);
    default:
        return tileKernel<8>(format);
    }
}

ProductChoice choose(const Format& format, ActivationFormat activations) {
    switch (format.code) {
    case CodeKind::Float32:
        return {rowProduct<Source::F32>, false, kRowPath};
    case CodeKind::Float16:
        return {rowProduct<Source::F16>, false, kRowPath};
    case CodeKind::BFloat16:
        return {rowProduct<Source::BF16>, false, kRowPath};
    case CodeKind::Uniform:
    case CodeKind::Table:
        break;
    }
    if (activations == ActivationFormat::Float)
        return {floatKernel(format), true, kFloatTilePath};
    return {integerKernel(format), true, kTilePath};
}

} // namespace
} // namespace nibble
