#include "core/base/atomic_folder.h"

#include "core/base/error.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace nibble {
namespace {

namespace fs = std::filesystem;

/// "out/" and "out" are one folder.
fs::path withoutSlash(fs::path path) {
    return path.has_filename() ? path : path.parent_path();
}

[[noreturn]] void failed(const fs::path& path, const char* doing, const std::string& why) {
    fail(ErrorKind::CannotWrite,
         "{}: {} failed: {}. Choose another place. What was there before is unchanged.",
         printable(path.string(), 400), doing, why);
}

void syncFolder(const fs::path& folder) {
    const int descriptor =
        open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    fsync(descriptor);
    close(descriptor);
}

} // namespace

AtomicFolder::AtomicFolder(fs::path path, const char* mayReplace)
    : m_path(withoutSlash(std::move(path))) {
    std::error_code ignored;
    const auto there = fs::status(m_path, ignored);
    if (fs::exists(there) && !fs::is_directory(there))
        fail(ErrorKind::CannotWrite, "{} is a file; a folder is written: choose another name.",
             printable(m_path.string(), 400));
    if (fs::is_directory(there) && !fs::is_empty(m_path, ignored) &&
        !fs::exists(m_path / mayReplace, ignored))
        fail(ErrorKind::CannotWrite,
             "{} is a folder with other files in it (it has no {}); choose another name.",
             printable(m_path.string(), 400), mayReplace);
    m_temporary = m_path;
    m_temporary += ".part-" + std::to_string(getpid());
    std::error_code error;
    fs::remove_all(m_temporary, error); // of an earlier process with this number
    fs::create_directory(m_temporary, error);
    if (error)
        failed(m_path, "making a folder beside it", error.message());
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!m_isCommitted)
        fs::remove_all(m_temporary, ignored);
}

void AtomicFolder::commit() {
    syncFolder(m_temporary);
    std::error_code ignored;
    const bool replaces = fs::is_directory(m_path, ignored) && !fs::is_empty(m_path, ignored);
    // Exchanged, so that at every moment one of the two is complete under the name.
    const int code = replaces ? renameat2(AT_FDCWD, m_temporary.c_str(), AT_FDCWD, m_path.c_str(),
                                          RENAME_EXCHANGE)
                              : rename(m_temporary.c_str(), m_path.c_str());
    if (code != 0)
        failed(m_path, "renaming the finished folder", std::strerror(errno));
    m_isCommitted = true;
    syncFolder(m_path.parent_path());
    if (replaces)
        fs::remove_all(m_temporary, ignored);
}

} // namespace nibble
