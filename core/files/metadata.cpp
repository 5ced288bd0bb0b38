#include "core/files/metadata.h"

#include "core/base/error.h"

#include <cmath>

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

} // namespace nibble
