#include "core/model/architectures.h"

#include <array>

namespace nibble {

std::span<const Architecture* const> architectures() {
    static constexpr std::array kAll{&kLlama, &kMistral, &kQwen2};
    return kAll;
}

} // namespace nibble
