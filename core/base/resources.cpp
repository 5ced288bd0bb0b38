#include "core/base/resources.h"

#include <cstdlib>

namespace nibble {

std::filesystem::path resourcePath(std::string_view relative) {
    if (const char* folder = std::getenv("NIBBLE_RESOURCES"); folder && *folder)
        return std::filesystem::path(folder) / relative;
    std::error_code ignored;
    const auto executable = std::filesystem::read_symlink("/proc/self/exe", ignored);
    if (!executable.empty()) {
        const auto installed =
            executable.parent_path().parent_path() / "share" / "nibble" / relative;
        if (std::filesystem::exists(installed, ignored))
            return installed;
    }
    return std::filesystem::path(NIBBLE_SOURCE_RESOURCES) / relative;
}

std::filesystem::path sampleModelPath() {
    return resourcePath("sample_model/nibble-sample-f16.gguf");
}

} // namespace nibble
