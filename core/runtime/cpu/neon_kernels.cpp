#if defined(__aarch64__)
#include "core/base/half.h"
#include "core/runtime/cpu/kernels.h"
#include "core/tensor/planes.h"

#include <arm_neon.h>
#include <cstring>

namespace nibble {
namespace {

constexpr bool kHasDot = false;
inline int32x4_t dotOf(int32x4_t sum, int8x16_t /*a*/, int8x16_t /*b*/) {
    return sum;
}
constexpr const char* kTilePath = "neon, tiles";
constexpr const char* kFloatTilePath = "neon, tiles";
constexpr const char* kRowPath = "neon, rows";

bool supported() {
    return true; // every AArch64 processor
}

} // namespace
} // namespace nibble

#include "core/runtime/cpu/neon_lanes.inl"
// What follows is written with it.
#include "core/runtime/cpu/choose.inl"

namespace nibble {
const CpuKernels kNeonKernels{"neon",   "NEON", supported, norm,  gate,
                              quantize, attend, spin,      choose};
} // namespace nibble
#endif
