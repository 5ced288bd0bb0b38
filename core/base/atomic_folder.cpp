#include "core/base/atomic_folder.h"

#include "core/base/error.h"
#include "core/base/leftovers.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace nibble {
namespace {

namespace fs = std::filesystem;

/// "out/" and "out" are one folder, and of a link it is the folder that is replaced.
fs::path folderItself(fs::path path) {
    if (!path.has_filename())
        path = path.parent_path();
    std::error_code error;
    if (!fs::is_symlink(path, error))
        return path;
    fs::path real = fs::canonical(path, error);
    return error ? path : real;
}

[[noreturn]] void failed(const fs::path& path, const char* doing, const std::string& why) {
    fail(ErrorKind::CannotWrite,
         "{}: {} failed: {}. Choose another place. What was there before is unchanged.",
         printable(path.string(), 400), doing, why);
}

/// The descriptor of a folder that no other process writes; -1 where one does, or there is none.
int lockFolder(const fs::path& folder) {
    const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 || lockOpen(descriptor))
        return descriptor;
    close(descriptor);
    return -1;
}

/// Moves without replacing: beside a name that is taken, the moved one is "NAME.kept".
bool moveInto(const fs::path& target, const fs::path& from) {
    const std::string name = from.filename().string();
    for (int copy = 0; copy < 1000; ++copy) {
        const std::string to = copy == 0   ? name
                               : copy == 1 ? name + ".kept"
                                           : name + ".kept-" + std::to_string(copy);
        if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, (target / to).c_str(), RENAME_NOREPLACE) ==
            0)
            return true;
        if (errno != EEXIST)
            return false;
    }
    return false;
}

} // namespace

AtomicFolder::AtomicFolder(fs::path path, const char* mark, WrittenFiles written)
    : m_path(folderItself(std::move(path))), m_temporary(partOf(m_path)), m_mark(mark),
      m_written(std::move(written)) {
    std::error_code ignored;
    const auto there = fs::status(m_path, ignored);
    if (fs::exists(there) && !fs::is_directory(there))
        fail(ErrorKind::CannotWrite, "{} is a file; a folder is written: choose another name.",
             printable(m_path.string(), 400));
    if (fs::is_directory(there) && !fs::is_empty(m_path, ignored) &&
        !fs::exists(m_path / m_mark, ignored))
        fail(ErrorKind::CannotWrite,
             "{} is a folder with other files in it (it has no {}); choose another name.",
             printable(m_path.string(), 400), m_mark);
    removeAbandoned();
    std::error_code error;
    const bool isMade = fs::create_directory(m_temporary, error);
    if (error)
        failed(m_path, "making a folder beside it", error.message());
    if (!isMade)
        failed(m_path, "making a folder beside it",
               printable(m_temporary.filename().string()) +
                   " is there already, in use or with files of yours in it");
    m_lock = lockFolder(m_temporary);
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!m_isCommitted)
        fs::remove_all(m_temporary, ignored);
    if (m_lock >= 0)
        close(m_lock);
}

/// Deletes the files of a part that writers wrote, and moves all else to the folder's own place.
/// The mark goes last: as long as it is there, a killed process's successor knows the same. Returns
/// the first name that could not be moved.
std::string AtomicFolder::empty(const fs::path& folder) const {
    std::error_code ignored;
    const std::vector<std::string> ours = m_written(folder);
    const auto isOurs = [&](const fs::directory_entry& entry) {
        const std::string name = entry.path().filename().string();
        std::error_code absent;
        return entry.symlink_status(absent).type() == fs::file_type::regular &&
               (name == m_mark || std::find(ours.begin(), ours.end(), name) != ours.end());
    };
    std::vector<fs::path> others, written;
    for (fs::directory_iterator at(folder, ignored), end; at != end; at.increment(ignored))
        (isOurs(*at) ? written : others).push_back(at->path());
    std::string kept;
    for (const fs::path& other : others)
        if (!moveInto(m_path, other) && kept.empty())
            kept = other.filename().string();
    if (!others.empty()) {
        syncFolder(m_path);
        syncFolder(folder);
    }
    for (const fs::path& file : written)
        if (file.filename() != m_mark)
            fs::remove(file, ignored);
    if (kept.empty())
        fs::remove(folder / m_mark, ignored);
    fs::remove(folder, ignored); // what is not empty stays
    return kept;
}

/// A part is either a folder that was not finished, or the one that was replaced; the latter may
/// still hold files that are nobody's but the user's.
void AtomicFolder::removeAbandoned() const {
    std::vector<fs::path> parts = abandonedParts(m_path);
    std::error_code ignored;
    if (!m_isCommitted && fs::exists(fs::symlink_status(m_temporary, ignored)))
        parts.push_back(m_temporary); // of an earlier process with this number
    for (const fs::path& part : parts)
        if (const int descriptor = lockFolder(part); descriptor >= 0) {
            empty(part);
            close(descriptor);
        }
}

void AtomicFolder::commit() {
    syncFolder(m_temporary);
    std::error_code ignored;
    const bool replaces = fs::is_directory(m_path, ignored) && !fs::is_empty(m_path, ignored);
    const int earlier = replaces ? lockFolder(m_path) : -1;
    // Exchanged, so that at every moment one of the two is complete under the name.
    const int code = replaces ? renameat2(AT_FDCWD, m_temporary.c_str(), AT_FDCWD, m_path.c_str(),
                                          RENAME_EXCHANGE)
                              : rename(m_temporary.c_str(), m_path.c_str());
    if (code != 0) {
        const int reason = errno;
        if (earlier >= 0)
            close(earlier);
        failed(m_path, "renaming the finished folder", std::strerror(reason));
    }
    m_isCommitted = true;
    syncFolder(m_path.parent_path());
    std::string kept;
    if (replaces)
        kept = empty(m_temporary);
    if (earlier >= 0)
        close(earlier);
    removeAbandoned();
    if (!kept.empty())
        fail(ErrorKind::CannotWrite,
             "{} is written, but {} could not be moved into it from the folder that was there "
             "before; it lies in {}.",
             printable(m_path.string(), 400), printable(kept),
             printable(m_temporary.string(), 400));
}

} // namespace nibble
