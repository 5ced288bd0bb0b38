#pragma once

#include "core/base/error.h"

#include <concepts>
#include <cstdint>
#include <limits>

namespace nibble {

/// An unsigned size that came from a file. Every operation is checked: an overflow throws
/// Error{BadInput} instead of wrapping, so no size can shrink by arithmetic.
class FileSize {
public:
    constexpr FileSize(uint64_t value = 0) : m_value(value) {}

    constexpr uint64_t value() const { return m_value; }

    friend FileSize operator*(FileSize a, FileSize b) {
        uint64_t r;
        if (__builtin_mul_overflow(a.m_value, b.m_value, &r))
            overflow();
        return r;
    }
    friend FileSize operator+(FileSize a, FileSize b) {
        uint64_t r;
        if (__builtin_add_overflow(a.m_value, b.m_value, &r))
            overflow();
        return r;
    }
    friend FileSize operator-(FileSize a, FileSize b) {
        if (b.m_value > a.m_value)
            overflow();
        return a.m_value - b.m_value;
    }
    friend constexpr auto operator<=>(FileSize, FileSize) = default;

    /// Rounded up to a multiple of `alignment` (a power of two).
    FileSize aligned(uint64_t alignment) const {
        return FileSize((*this + (alignment - 1)).value() & ~(alignment - 1));
    }

    /// The value as a narrower type, or Error{BadInput}.
    template <std::integral T>
    T to() const {
        if (m_value > static_cast<uint64_t>(std::numeric_limits<T>::max()))
            overflow();
        return static_cast<T>(m_value);
    }

private:
    [[noreturn]] static void overflow() {
        fail(ErrorKind::BadInput,
             "A size in the file is too large to be true; the file is damaged or hostile.");
    }

    uint64_t m_value;
};

} // namespace nibble
