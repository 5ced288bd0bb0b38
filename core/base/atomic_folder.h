#pragma once

#include <filesystem>

namespace nibble {

/// A folder that appears under its name complete or not at all: files are written into a folder
/// beside it, which is renamed at the end. Destroyed without commit() it leaves nothing behind;
/// what a killed process left, the next one for the same name removes.
class AtomicFolder {
public:
    /// `mayReplace` names a file that tells a folder that may be replaced; any other one that is
    /// not empty is Error{CannotWrite}, and so is a file of that name.
    AtomicFolder(std::filesystem::path path, const char* mayReplace);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder&) = delete;
    AtomicFolder& operator=(const AtomicFolder&) = delete;

    /// Where files are written until commit().
    const std::filesystem::path& temporary() const { return m_temporary; }
    void commit();

private:
    std::filesystem::path m_path, m_temporary;
    bool m_isCommitted = false;
    int m_lock = -1; ///< says to others that it is being written
};

} // namespace nibble
