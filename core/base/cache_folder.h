#pragma once

#include <filesystem>

namespace nibble {

/// Where results are kept that can be computed again: $XDG_CACHE_HOME/nibble, else
/// ~/.cache/nibble, created when it is not there. Empty where neither can be written.
std::filesystem::path cacheFolder();

} // namespace nibble
