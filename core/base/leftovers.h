#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace nibble {

/// What files and folders are written as until they are complete: "PATH.part-PROCESS".
std::filesystem::path partOf(const std::filesystem::path& path);
/// Whether `name` is a part of one of this name, by whatever process.
bool isPartOf(std::string_view name, std::string_view whole);

/// Locks an open file or folder for as long as the descriptor is open, which says to others that
/// it is being written; false when another process has it. Where nothing can be locked: true.
bool lockOpen(int descriptor);

/// The parts beside `path` that killed processes left: those with the number of a process that is
/// no more. Whoever removes one locks it first: a process on another machine that shares the disk
/// may have that number.
std::vector<std::filesystem::path> abandonedParts(const std::filesystem::path& path);

/// Makes renames in a folder safe against a power cut, where folders can be synced at all.
void syncFolder(const std::filesystem::path& folder);

} // namespace nibble
