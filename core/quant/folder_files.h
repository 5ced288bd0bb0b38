#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// What an exported folder may have besides weights, config and receipt, by name.
std::span<const char* const> sideFiles();

/// The receipt of a folder that is written, with the names of all its files: "files".
std::string receiptWithFiles(const std::string& receipt, const std::filesystem::path& folder);

/// The names of those files in a folder that an export wrote there: what its receipt lists, and of
/// an export that did not list them, or was not finished, what exports call their files.
std::vector<std::string> exportedFiles(const std::filesystem::path& folder);

} // namespace nibble
