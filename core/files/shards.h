#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace nibble {

/// "name-00002-of-00003.gguf": one part of a GGUF file that was split. An empty stem = the name is
/// not of this form.
struct ShardName {
    std::string stem;
    uint64_t number = 0, count = 0;

    /// Whether it stands for one of several parts, as many as are accepted.
    bool isPart() const;
};
ShardName shardName(const std::filesystem::path& path);

/// Where part `number` lies.
std::filesystem::path shardPath(const std::filesystem::path& folder, const ShardName& shard,
                                uint64_t number);

} // namespace nibble
