#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace nibble::cli {

/// Writes a float32 matrix as a NumPy array file, version 1.0, row-major; atomic.
void writeNpy(const std::filesystem::path& path, int64_t rows, int64_t cols,
              std::span<const float> values);

} // namespace nibble::cli
