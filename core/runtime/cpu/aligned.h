#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace nibble {

/// Zeroed memory on a cache line boundary, as vector loads like it. Error: std::bad_alloc.
template <typename T>
class AlignedBuffer {
public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(size_t count)
        : m_data(static_cast<T*>(::operator new(count * sizeof(T), kAlignment))), m_count(count) {
        std::uninitialized_value_construct_n(m_data.get(), count);
    }

    T* data() { return m_data.get(); }
    const T* data() const { return m_data.get(); }
    size_t size() const { return m_count; }
    size_t bytes() const { return m_count * sizeof(T); }

private:
    static constexpr std::align_val_t kAlignment{64};
    struct Free {
        void operator()(T* data) const { ::operator delete(data, kAlignment); }
    };
    std::unique_ptr<T, Free> m_data;
    size_t m_count = 0;
};

} // namespace nibble
