#include "core/base/atomic_file.h"

#include "core/base/error.h"
#include "core/base/leftovers.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace nibble {
namespace {
constexpr size_t kBufferBytes = 1 << 20;
/// Written at once, and then on their way to the disk.
constexpr size_t kWriteBytes = 8 << 20;

/// Removes what killed processes left of files of this name.
void removeAbandoned(const std::filesystem::path& path) {
    for (const std::filesystem::path& part : abandonedParts(path)) {
        const int descriptor = open(part.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat found {};
        if (descriptor < 0)
            continue;
        if (fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode) && lockOpen(descriptor))
            unlink(part.c_str());
        close(descriptor);
    }
}

} // namespace

AtomicFile::AtomicFile(std::filesystem::path path)
    : m_path(std::move(path)), m_buffer(new std::byte[kBufferBytes]) {
    // The rename would put a file in the place of a device.
    std::error_code ignored;
    const auto there = std::filesystem::status(m_path, ignored);
    if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
        fail(ErrorKind::CannotWrite, "{} is a {}; choose a file name.",
             printable(m_path.string(), 400),
             std::filesystem::is_directory(there) ? "folder" : "device or pipe");
    m_temporary = partOf(m_path);
    removeAbandoned(m_path);
    m_descriptor = open(m_temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (m_descriptor < 0)
        failed("opening it", errno);
    lockOpen(m_descriptor);
}

AtomicFile::~AtomicFile() {
    if (m_descriptor < 0)
        return;
    close(m_descriptor);
    unlink(m_temporary.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    m_written += bytes.size();
    if (bytes.size() >= kBufferBytes) { // no need to copy them first
        flush();
        writeAt(m_flushed, bytes);
        m_flushed += bytes.size();
        return;
    }
    while (!bytes.empty()) {
        const size_t n = std::min(bytes.size(), kBufferBytes - m_buffered);
        std::memcpy(m_buffer.get() + m_buffered, bytes.data(), n);
        m_buffered += n;
        bytes = bytes.subspan(n);
        if (m_buffered == kBufferBytes)
            flush();
    }
}

void AtomicFile::write(std::string_view text) {
    write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::flush() {
    const size_t buffered = m_buffered;
    m_buffered = 0;
    writeAt(m_flushed, {m_buffer.get(), buffered});
    m_flushed += buffered;
}

uint64_t AtomicFile::reserve(uint64_t bytes) {
    flush();
    const uint64_t begin = m_written;
    m_written += bytes;
    m_flushed = m_written;
    if (ftruncate(m_descriptor, static_cast<off_t>(m_written)) != 0)
        failed("making room", errno);
    return begin;
}

void AtomicFile::writeAt(uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = pwrite(m_descriptor, bytes.data(), std::min(bytes.size(), kWriteBytes),
                                 static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            failed("writing", errno);
        bytes = bytes.subspan(static_cast<size_t>(n));
        offset += static_cast<uint64_t>(n);
        send(static_cast<uint64_t>(n));
    }
}

/// Without this all of a large file waits in memory for the sync at the end.
void AtomicFile::send(uint64_t bytes) {
    const uint64_t before = m_sent.fetch_add(bytes);
    if (before / kWriteBytes == (before + bytes) / kWriteBytes)
        return;
#ifdef SYNC_FILE_RANGE_WRITE
    sync_file_range(m_descriptor, 0, 0, SYNC_FILE_RANGE_WRITE); // whatever is not on its way yet
#endif
}

void AtomicFile::commit() {
    flush();
    if (fsync(m_descriptor) != 0)
        failed("saving", errno);
    if (close(m_descriptor) != 0) {
        m_descriptor = -1;
        const int code = errno;
        unlink(m_temporary.c_str());
        failed("saving", code);
    }
    m_descriptor = -1;
    if (rename(m_temporary.c_str(), m_path.c_str()) != 0) {
        const int code = errno;
        unlink(m_temporary.c_str());
        failed("renaming the finished file", code);
    }
    // Without this a power cut could forget the rename; where folders cannot be synced, the
    // file itself is complete all the same.
    syncFolder(m_path.parent_path());
}

void AtomicFile::failed(const char* doing, int code) {
    fail(ErrorKind::CannotWrite, "{}: {} failed: {}. {} What was there before is unchanged.",
         printable(m_path.string(), 400), doing, std::strerror(code),
         code == ENOSPC || code == EDQUOT || code == EFBIG
             ? "Free some space or choose another disk."
             : "Choose another place.");
}

void writeFileAtomically(const std::filesystem::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

} // namespace nibble
