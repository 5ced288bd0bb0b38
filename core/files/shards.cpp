#include "core/files/shards.h"

#include "core/base/limits.h"

#include <charconv>
#include <fmt/core.h>
#include <string_view>

namespace nibble {

bool ShardName::isPart() const {
    return count > 1 && count <= limits::kShards && number >= 1 && number <= count;
}

ShardName shardName(const std::filesystem::path& path) {
    constexpr std::string_view shape = "-00000-of-00000.gguf";
    const std::string name = path.filename().string();
    if (name.size() <= shape.size())
        return {};
    const std::string_view tail = std::string_view(name).substr(name.size() - shape.size());
    for (size_t i = 0; i < shape.size(); ++i)
        if (shape[i] == '0' ? tail[i] < '0' || tail[i] > '9' : tail[i] != shape[i])
            return {};
    ShardName shard;
    std::from_chars(tail.data() + 1, tail.data() + 6, shard.number);
    std::from_chars(tail.data() + 10, tail.data() + 15, shard.count);
    shard.stem = name.substr(0, name.size() - shape.size());
    return shard;
}

std::filesystem::path shardPath(const std::filesystem::path& folder, const ShardName& shard,
                                uint64_t number) {
    return folder / fmt::format("{}-{:05}-of-{:05}.gguf", shard.stem, number, shard.count);
}

} // namespace nibble
