#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace nibble {

/// Writes a file that appears under its name complete or not at all: a temporary beside it is
/// written, synced, renamed, and the folder synced. Destroyed without commit() it leaves nothing
/// behind; what a killed process left, the next one for the same name removes. Every failure is
/// Error{CannotWrite} that names the file and the reason.
class AtomicFile {
public:
    explicit AtomicFile(std::filesystem::path path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    /// Room for `bytes` after what was written, to be filled with writeAt(); what is not filled is
    /// zero. Where it begins.
    uint64_t reserve(uint64_t bytes);
    /// Into reserved room: from any thread, in any order.
    void writeAt(uint64_t offset, std::span<const std::byte> bytes);
    uint64_t written() const { return m_written; }
    void commit();

private:
    void flush();
    void send(uint64_t bytes);
    [[noreturn]] void failed(const char* doing, int code);

    std::filesystem::path m_path, m_temporary;
    int m_descriptor = -1;
    uint64_t m_written = 0, m_flushed = 0;
    std::atomic<uint64_t> m_sent = 0;
    std::unique_ptr<std::byte[]> m_buffer;
    size_t m_buffered = 0;
};

/// One call for small files.
void writeFileAtomically(const std::filesystem::path& path, std::string_view text);

} // namespace nibble
