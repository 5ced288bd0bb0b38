#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace nibble {

/// Immutable bytes together with whatever keeps them alive: a mapped file or a vector. Copying
/// shares; slices share too.
class Bytes {
public:
    Bytes() = default;
    Bytes(std::shared_ptr<const void> owner, std::span<const std::byte> view)
        : m_owner(std::move(owner)), m_view(view) {}

    /// Takes over a vector's memory.
    template <typename T>
    static Bytes of(std::vector<T> values) {
        auto owner = std::make_shared<const std::vector<T>>(std::move(values));
        const auto view = std::as_bytes(std::span<const T>(*owner));
        return Bytes(std::move(owner), view);
    }

    const std::byte* data() const { return m_view.data(); }
    size_t size() const { return m_view.size(); }
    bool empty() const { return m_view.empty(); }
    std::span<const std::byte> view() const { return m_view; }

    /// The bytes seen as values of T; size() must be a multiple of sizeof(T) and data() aligned.
    template <typename T>
    std::span<const T> as() const {
        return {reinterpret_cast<const T*>(m_view.data()), m_view.size() / sizeof(T)};
    }
    Bytes slice(size_t from, size_t count) const {
        return Bytes(m_owner, m_view.subspan(from, count));
    }

private:
    std::shared_ptr<const void> m_owner;
    std::span<const std::byte> m_view;
};

} // namespace nibble
