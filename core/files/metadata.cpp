#include "core/files/metadata.h"

#include "core/base/error.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <sstream>
#include <type_traits>

namespace nibble {
namespace {

template <typename T>
const T* findAs(const Metadata& metadata, std::string_view key) {
    const MetadataValue* entry = metadata.find(key);
    return entry ? std::get_if<T>(&entry->value) : nullptr;
}

/// The value as an integer where it is one exactly.
bool toInteger(const MetadataValue& entry, int64_t& out) {
    if (const auto* integer = std::get_if<int64_t>(&entry.value)) {
        out = *integer;
        return true;
    }
    const auto* real = std::get_if<double>(&entry.value);
    if (!real || *real != std::floor(*real) || std::fabs(*real) > 0x1p53)
        return false;
    out = static_cast<int64_t>(*real);
    return true;
}

} // namespace

const MetadataValue* Metadata::find(std::string_view key) const {
    const auto at = entries.find(key);
    return at == entries.end() ? nullptr : &at->second;
}

const std::string* Metadata::findString(std::string_view key) const {
    return findAs<std::string>(*this, key);
}
const MetadataValue::Strings* Metadata::findStrings(std::string_view key) const {
    return findAs<MetadataValue::Strings>(*this, key);
}
const MetadataValue::Integers* Metadata::findIntegers(std::string_view key) const {
    return findAs<MetadataValue::Integers>(*this, key);
}
const MetadataValue::Floats* Metadata::findFloats(std::string_view key) const {
    return findAs<MetadataValue::Floats>(*this, key);
}
const MetadataValue::Booleans* Metadata::findBooleans(std::string_view key) const {
    return findAs<MetadataValue::Booleans>(*this, key);
}
const MetadataValue::Doubles* Metadata::findDoubles(std::string_view key) const {
    return findAs<MetadataValue::Doubles>(*this, key);
}

int64_t Metadata::getInteger(std::string_view key) const {
    const MetadataValue* entry = find(key);
    if (!entry)
        fail(ErrorKind::BadInput,
             "{}: the key \"{}\" is missing; a whole number is expected there. The file is not "
             "complete or "
             "of a kind that is not known here.",
             printable(source), printable(key));
    int64_t value;
    if (!toInteger(*entry, value))
        fail(ErrorKind::BadInput, "{}: the key \"{}\" is {}, where a whole number is expected.",
             printable(source), printable(key), describe(*entry));
    return value;
}

int64_t Metadata::integerOr(std::string_view key, int64_t fallback) const {
    const MetadataValue* entry = find(key);
    int64_t value;
    return entry && toInteger(*entry, value) ? value : fallback;
}

double Metadata::floatOr(std::string_view key, double fallback) const {
    const MetadataValue* entry = find(key);
    if (!entry)
        return fallback;
    if (const auto* real = std::get_if<double>(&entry->value))
        return *real;
    if (const auto* integer = std::get_if<int64_t>(&entry->value))
        return static_cast<double>(*integer);
    return fallback;
}

bool Metadata::booleanOr(std::string_view key, bool fallback) const {
    const bool* value = findAs<bool>(*this, key);
    return value ? *value : fallback;
}

std::string Metadata::stringOr(std::string_view key, std::string_view fallback) const {
    const std::string* value = findString(key);
    return value ? *value : std::string(fallback);
}

std::string describe(const MetadataValue& value) {
    struct Visitor {
        std::string operator()(int64_t v) const { return fmt::format("{}", v); }
        std::string operator()(uint64_t v) const { return fmt::format("{}", v); }
        std::string operator()(double v) const { return fmt::format("{:g}", v); }
        std::string operator()(bool v) const { return v ? "true" : "false"; }
        std::string operator()(const std::string& v) const { return "\"" + printable(v) + "\""; }
        std::string operator()(const MetadataValue::Strings& v) const {
            return fmt::format("[{} strings]", v.size());
        }
        std::string operator()(const MetadataValue::Integers& v) const {
            return fmt::format("[{} integers]", v.size());
        }
        std::string operator()(const MetadataValue::Floats& v) const {
            return fmt::format("[{} floats]", v.size());
        }
        std::string operator()(const MetadataValue::Doubles& v) const {
            return fmt::format("[{} floats]", v.size());
        }
        std::string operator()(const MetadataValue::Booleans& v) const {
            return fmt::format("[{} booleans]", v.size());
        }
    };
    return std::visit(Visitor{}, value.value);
}

namespace {

/// Of the GGUF value types, by number.
constexpr const char* kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};

template <typename T>
constexpr bool kIsArray = false;
template <typename T>
constexpr bool kIsArray<std::vector<T>> = true;

std::string textOf(const std::string& value, bool quoted) {
    return quoted ? "\"" + printable(value, 40) + "\"" : value;
}
std::string textOf(bool value, bool) {
    return value ? "true" : "false";
}
template <typename T>
std::string textOf(T value, bool) {
    if constexpr (std::is_floating_point_v<T>)
        return fmt::format("{:g}", value);
    else
        return fmt::format("{}", value);
}

std::string typeName(const MetadataValue& value) {
    const auto stored = [](uint32_t type) {
        return type < std::size(kTypeNames) ? kTypeNames[type] : nullptr;
    };
    return std::visit(
        [&](const auto& v) -> std::string {
            using V = std::decay_t<decltype(v)>;
            if constexpr (kIsArray<V>) {
                const std::string all = describe(value); // "[3 strings]"
                const char* element = stored(value.storedElementType);
                return element && std::string_view(element) != "string" &&
                               std::string_view(element) != "bool"
                           ? fmt::format("{} × {}", v.size(), element)
                           : all.substr(1, all.size() - 2);
            } else {
                if (const char* name = stored(value.storedType))
                    return name;
                return std::is_same_v<V, std::string> ? "string"
                       : std::is_same_v<V, bool>      ? "bool"
                       : std::is_same_v<V, double>    ? "float"
                                                      : "integer";
            }
        },
        value.value);
}

std::string shortText(const MetadataValue& value) {
    constexpr size_t kShown = 8, kTextLimit = 400;
    return std::visit(
        [&](const auto& v) -> std::string {
            using V = std::decay_t<decltype(v)>;
            if constexpr (kIsArray<V>) {
                std::string text;
                for (size_t i = 0; i < v.size() && i < kShown; ++i)
                    text += (i ? ", " : "") + textOf(v[i], true);
                return v.size() > kShown ? text + fmt::format(", … ({} in all)", v.size()) : text;
            } else if constexpr (std::is_same_v<V, std::string>) {
                return printable(v, kTextLimit);
            } else {
                return textOf(v, false);
            }
        },
        value.value);
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

} // namespace

std::vector<MetadataRow> metadataRows(const Metadata& metadata, std::string_view pattern) {
    std::vector<std::string> words;
    std::istringstream line(lower(std::string(pattern)));
    for (std::string word; line >> word;)
        words.push_back(word);
    std::vector<MetadataRow> rows;
    for (const auto& [key, value] : metadata.entries) {
        MetadataRow row{printable(key, 200), typeName(value), shortText(value)};
        const std::string text = lower(row.key + " " + row.type + " " + row.value);
        if (std::ranges::all_of(words, [&](const std::string& word) {
                return text.find(word) != std::string::npos;
            }))
            rows.push_back(std::move(row));
    }
    return rows;
}

std::string fullText(const MetadataValue& value, size_t limit) {
    return std::visit(
        [&](const auto& v) -> std::string {
            using V = std::decay_t<decltype(v)>;
            if constexpr (kIsArray<V>) {
                std::string text;
                for (size_t i = 0; i < v.size() && text.size() < limit; ++i)
                    text += textOf(v[i], false) + "\n";
                return text;
            } else {
                return textOf(v, false).substr(0, limit);
            }
        },
        value.value);
}

} // namespace nibble
