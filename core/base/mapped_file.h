#pragma once

#include "core/base/bytes.h"

#include <filesystem>
#include <string>

namespace nibble {

/// Maps a regular file read-only. Refuses folders, FIFOs, devices and unreadable files with
/// Error{BadInput}; never blocks on opening. The bytes keep the mapping alive.
Bytes mapFile(const std::filesystem::path& path);

/// Reads a small regular file whole; Error{BadInput} when it is missing, not regular, or larger
/// than `limit` bytes.
std::string readTextFile(const std::filesystem::path& path, uint64_t limit);

/// Tells the kernel that the pages of `view` (part of a mapping) are no longer needed soon, so
/// that loading does not keep the file's pages resident beside the transcoded planes.
void releasePages(std::span<const std::byte> view);

/// Tells the kernel that they will be needed soon, so that it reads them while others are worked
/// on.
void prefetchPages(std::span<const std::byte> view);

/// Reads the pages of `view` into memory. Error{BadInput} naming `what` where that is not possible,
/// because the file was cut or its disk fails, which would end the process on a first touch.
void requireReadable(std::span<const std::byte> view, std::string_view what);

/// zlib-compressed bytes to text; Error{BadInput} when damaged or larger than `limit`.
std::string inflateText(std::span<const std::byte> compressed, uint64_t limit);

} // namespace nibble
