#include "core/base/cache_folder.h"

#include <cstdlib>

namespace nibble {

std::filesystem::path cacheFolder() {
    const auto variable = [](const char* name) -> std::filesystem::path {
        const char* value = std::getenv(name);
        return value ? value : "";
    };
    std::filesystem::path base = variable("XDG_CACHE_HOME");
    if (base.empty() && !variable("HOME").empty())
        base = variable("HOME") / ".cache";
    if (!base.is_absolute())
        return {};
    base /= "nibble";
    std::error_code failed;
    std::filesystem::create_directories(base, failed);
    return failed ? std::filesystem::path() : base;
}

} // namespace nibble
