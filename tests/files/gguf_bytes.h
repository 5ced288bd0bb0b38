#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nibble::test {

/// GGUF bytes put together by hand, valid or not.
class GgufBytes {
public:
    explicit GgufBytes(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
        m_bytes = "GGUF";
        put(version).put(tensors).put(entries);
    }
    template <typename T>
    GgufBytes& put(T value) {
        m_bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    GgufBytes& text(std::string_view value) {
        put(static_cast<uint64_t>(value.size()));
        m_bytes += value;
        return *this;
    }
    /// A key and its value type; the value is to follow.
    GgufBytes& key(std::string_view name, uint32_t type) { return text(name).put(type); }
    GgufBytes& entry(std::string_view name, uint32_t value) { return key(name, 4).put(value); }
    GgufBytes& tensor(std::string_view name, std::initializer_list<uint64_t> innermostFirst,
                      uint32_t type, uint64_t offset) {
        text(name).put(static_cast<uint32_t>(innermostFirst.size()));
        for (const uint64_t size : innermostFirst)
            put(size);
        return put(type).put(offset);
    }
    GgufBytes& pad(size_t alignment = 32) {
        m_bytes.resize((m_bytes.size() + alignment - 1) / alignment * alignment, '\0');
        return *this;
    }
    GgufBytes& data(size_t bytes, char fill = 'x') {
        m_bytes.append(bytes, fill);
        return *this;
    }
    const std::string& bytes() const { return m_bytes; }

private:
    std::string m_bytes;
};

} // namespace nibble::test
