#pragma once

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace nibble::test {

/// A file of any length that takes no room but for what is put into it.
class SparseFile {
public:
    SparseFile(const std::filesystem::path& path, const std::string& head, uint64_t bytes)
        : m_file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600)) {
        m_holds = m_file >= 0 && ftruncate(m_file, static_cast<off_t>(bytes)) == 0;
        struct stat info {};
        m_holds = m_holds && fstat(m_file, &info) == 0 &&
                  static_cast<uint64_t>(info.st_blocks) * 512 < bytes / 2;
        put(0, head.data(), head.size());
    }
    ~SparseFile() {
        if (m_file >= 0)
            close(m_file);
    }
    SparseFile(const SparseFile&) = delete;
    SparseFile& operator=(const SparseFile&) = delete;

    /// False where the file system cannot leave holes, or cannot hold so long a file.
    bool holds() const { return m_holds; }
    void put(uint64_t offset, const void* data, size_t bytes) {
        m_holds = m_holds && pwrite(m_file, data, bytes, static_cast<off_t>(offset)) ==
                                 static_cast<ssize_t>(bytes);
    }

private:
    int m_file;
    bool m_holds = false;
};

/// The process's largest resident size since forgetPeak(), in bytes.
inline uint64_t peakBytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:"))
            return std::stoull(line.substr(6)) * 1024;
    return 0;
}
inline bool forgetPeak() {
    std::ofstream refs("/proc/self/clear_refs");
    refs << "5" << std::flush;
    return refs.good();
}

} // namespace nibble::test
