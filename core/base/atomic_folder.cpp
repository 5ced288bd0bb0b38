#include "core/base/atomic_folder.h"

#include "core/base/error.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <vector>

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPartSuffix = ".part-";

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

/// Locked while its process writes it. Where folders cannot be locked, nothing is.
int lockFolder(const fs::path& folder) {
    const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 || flock(descriptor, LOCK_EX | LOCK_NB) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}

/// Removes what killed processes left beside `path`: folders of the same name with the number of a
/// process that is no more, and that no process (also on another machine that shares the disk)
/// has locked.
void removeAbandoned(const fs::path& path) {
    std::error_code ignored;
    const std::string prefix = path.filename().string() + kPartSuffix;
    const fs::path parent = path.parent_path().empty() ? fs::path(".") : path.parent_path();
    std::vector<fs::path> abandoned;
    for (fs::directory_iterator at(parent, ignored), end; at != end; at.increment(ignored)) {
        const std::string name = at->path().filename().string();
        pid_t process = 0;
        const char* last = name.data() + name.size();
        if (!name.starts_with(prefix) ||
            std::from_chars(name.data() + prefix.size(), last, process).ptr != last || process <= 0)
            continue;
        if (kill(process, 0) != 0 && errno == ESRCH)
            abandoned.push_back(at->path());
    }
    for (const fs::path& folder : abandoned)
        if (const int descriptor = lockFolder(folder); descriptor >= 0) {
            fs::remove_all(folder, ignored);
            close(descriptor);
        }
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
    m_temporary += kPartSuffix + std::to_string(getpid());
    removeAbandoned(m_path);
    std::error_code error;
    fs::remove_all(m_temporary, error); // of an earlier process with this number
    fs::create_directory(m_temporary, error);
    if (error)
        failed(m_path, "making a folder beside it", error.message());
    m_lock = lockFolder(m_temporary);
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!m_isCommitted)
        fs::remove_all(m_temporary, ignored);
    if (m_lock >= 0)
        close(m_lock);
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
