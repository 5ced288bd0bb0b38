#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace nibble {

/// One metadata value of a checkpoint. Integers are widened to int64 (uint64 beyond INT64_MAX is
/// kept as uint64), single floats to double, arrays keep their width; `storedType` remembers the
/// GGUF type so that a file is written back unchanged.
struct MetadataValue {
    using Strings = std::vector<std::string>;
    using Integers = std::vector<int64_t>;
    using Floats = std::vector<float>;
    using Doubles = std::vector<double>;
    using Booleans = std::vector<bool>;
    std::variant<int64_t, uint64_t, double, bool, std::string, Strings, Integers, Floats, Doubles,
                 Booleans>
        value;
    static constexpr uint32_t kUnstated = ~0u; ///< not from a GGUF file: the writer chooses
    uint32_t storedType = kUnstated;           ///< GGUF value type; 9 for arrays
    uint32_t storedElementType = kUnstated;    ///< of arrays
};

/// Keys and values of a checkpoint: a GGUF file's own, or a Hugging Face config.json flattened with
/// dots ("rope_scaling.factor"). `find…` returns null when a key is absent or of another type,
/// `get…` throws Error{BadInput} naming the key; numbers convert between integer and float.
class Metadata {
public:
    std::string source; ///< file name for messages
    std::map<std::string, MetadataValue, std::less<>> entries;

    const MetadataValue* find(std::string_view key) const;
    bool has(std::string_view key) const { return find(key) != nullptr; }
    const std::string* findString(std::string_view key) const;
    const MetadataValue::Strings* findStrings(std::string_view key) const;
    const MetadataValue::Integers* findIntegers(std::string_view key) const;
    const MetadataValue::Booleans* findBooleans(std::string_view key) const;
    const MetadataValue::Floats* findFloats(std::string_view key) const;
    const MetadataValue::Doubles* findDoubles(std::string_view key) const;
    int64_t getInteger(std::string_view key) const;
    int64_t integerOr(std::string_view key, int64_t fallback) const;
    double floatOr(std::string_view key, double fallback) const;
    bool booleanOr(std::string_view key, bool fallback) const;
    std::string stringOr(std::string_view key, std::string_view fallback) const;
};

/// One line for tables: numbers as text, strings quoted and cut, arrays as "[n strings]".
std::string describe(const MetadataValue& value);

/// An entry as people read and search it.
struct MetadataRow {
    std::string key;
    std::string type;  ///< "string", "u32", "32000 strings"; of folders "integer", "float", …
    std::string value; ///< on one line; long texts and arrays are cut
};
/// The entries whose key, type or value holds every word of `pattern`, in any case.
std::vector<MetadataRow> metadataRows(const Metadata& metadata, std::string_view pattern = {});
/// A value whole, for copying: text as it is, arrays one element a line; cut after `limit` bytes.
std::string fullText(const MetadataValue& value, size_t limit = 1 << 20);

} // namespace nibble
