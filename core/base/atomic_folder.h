#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace nibble {

/// A folder that appears under its name complete or not at all: files are written into a folder
/// beside it, which takes its place at the end. Destroyed without commit() it leaves nothing
/// behind; what a killed process left, the next one for the same name removes. An earlier folder of
/// that name loses only the files that were written there in the same way: what else lies in it,
/// and folders, move into the new one.
class AtomicFolder {
public:
    /// The names of those files in a folder that writers of such folders wrote, finished or not.
    using WrittenFiles = std::function<std::vector<std::string>(const std::filesystem::path&)>;

    /// `mark` is a file that tells a folder that may be replaced; any other one that is not empty
    /// is Error{CannotWrite}, and so is a file of that name.
    AtomicFolder(std::filesystem::path path, const char* mark, WrittenFiles written);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder&) = delete;
    AtomicFolder& operator=(const AtomicFolder&) = delete;

    /// Where files are written until commit().
    const std::filesystem::path& temporary() const { return m_temporary; }
    void commit();

private:
    std::string empty(const std::filesystem::path& folder) const;
    void removeAbandoned() const;

    std::filesystem::path m_path, m_temporary;
    std::string m_mark;
    WrittenFiles m_written;
    bool m_isCommitted = false;
    int m_lock = -1; ///< says to others that it is being written
};

} // namespace nibble
