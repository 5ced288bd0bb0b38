#if defined(__aarch64__)
#include "core/base/half.h"
#include "core/runtime/cpu/kernels.h"
#include "core/tensor/planes.h"

#include <arm_neon.h>
#include <cstring>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")

namespace nibble {
namespace {

constexpr bool kHasDot = true;
inline int32x4_t dotOf(int32x4_t sum, int8x16_t a, int8x16_t b) {
    return vdotq_s32(sum, a, b);
}
constexpr const char* kTilePath = "dotprod, tiles";
constexpr const char* kFloatTilePath = "dotprod, tiles";
constexpr const char* kRowPath = "dotprod, rows";

bool supported() {
#if defined(__linux__)
    constexpr unsigned long kDotProduct = 1UL << 20; // HWCAP_ASIMDDP of Linux
    return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#else
    return false;
#endif
}

} // namespace
} // namespace nibble

#include "core/runtime/cpu/neon_lanes.inl"
// What follows is written with it.
#include "core/runtime/cpu/choose.inl"

#pragma GCC pop_options

namespace nibble {
const CpuKernels kDotprodKernels{
    "dotprod", "NEON dot product", supported, norm, gate, quantize, attend, spin, choose};
} // namespace nibble
#endif
