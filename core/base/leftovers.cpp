#include "core/base/leftovers.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/file.h>
#include <unistd.h>

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartSuffix = ".part-";

/// The process whose part of `whole` this is.
std::optional<pid_t> writerOf(std::string_view name, std::string_view whole) {
    if (!name.starts_with(whole) || !name.substr(whole.size()).starts_with(kPartSuffix))
        return {};
    const char* last = name.data() + name.size();
    pid_t process = 0;
    const auto read =
        std::from_chars(name.data() + whole.size() + kPartSuffix.size(), last, process);
    return read.ptr == last && process > 0 ? std::optional(process) : std::nullopt;
}

} // namespace

fs::path partOf(const fs::path& path) {
    fs::path part = path;
    part += std::string(kPartSuffix) + std::to_string(getpid());
    return part;
}

bool isPartOf(std::string_view name, std::string_view whole) {
    return writerOf(name, whole).has_value();
}

bool lockOpen(int descriptor) {
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

std::vector<fs::path> abandonedParts(const fs::path& path) {
    const std::string whole = path.filename().string();
    const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
    std::error_code ignored;
    std::vector<fs::path> found;
    for (fs::directory_iterator at(folder, ignored), end; at != end; at.increment(ignored)) {
        const auto process = writerOf(at->path().filename().string(), whole);
        if (process && kill(*process, 0) != 0 && errno == ESRCH)
            found.push_back(at->path());
    }
    return found;
}

void syncFolder(const fs::path& folder) {
    const int descriptor =
        open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    fsync(descriptor);
    close(descriptor);
}

} // namespace nibble
