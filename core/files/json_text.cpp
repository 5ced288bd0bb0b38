#include "core/files/json_text.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"

#include <algorithm>
#include <filesystem>
#include <unordered_set>
#include <vector>

namespace nibble {
namespace {

using Json = nlohmann::json;

std::string shortName(const std::string& file) {
    return printable(std::filesystem::path(file).filename().string());
}

/// Where a text stops making sense, for people: the reader stands behind the byte that it did not
/// expect.
std::string placeOf(std::string_view text, size_t byte) {
    if (text.empty() || byte > text.size())
        return "it ends too early";
    const size_t at = byte == 0 ? 0 : byte - 1;
    const auto line = 1 + std::ranges::count(text.substr(0, at), '\n');
    const size_t start = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
    const size_t column = start == std::string_view::npos ? at + 1 : at - start;
    return fmt::format("something is wrong at line {}, column {}", line, column);
}

} // namespace

Json parseJson(std::string_view text, const std::string& file, int depth, std::string_view advice) {
    std::vector<std::unordered_set<std::string>> keys;
    const auto watch = [&](int at, Json::parse_event_t event, Json& parsed) {
        switch (event) {
        case Json::parse_event_t::object_start:
        case Json::parse_event_t::array_start:
            if (at >= depth)
                fail(ErrorKind::BadInput,
                     "{}: the JSON nests deeper than {} levels. The file is damaged or hostile.",
                     shortName(file), depth);
            if (event == Json::parse_event_t::object_start)
                keys.emplace_back();
            break;
        case Json::parse_event_t::object_end:
            keys.pop_back();
            break;
        case Json::parse_event_t::key:
            if (!keys.back().insert(parsed.get_ref<const std::string&>()).second)
                fail(ErrorKind::BadInput,
                     "{}: the JSON key \"{}\" occurs twice in one object. The file is "
                     "damaged or hostile.",
                     shortName(file), printable(parsed.get_ref<const std::string&>()));
            break;
        default:
            break;
        }
        return true;
    };
    try {
        return Json::parse(text.begin(), text.end(), watch);
    } catch (const Json::parse_error& e) {
        fail(ErrorKind::BadInput, "{}: this is not valid JSON: {}. {}", shortName(file),
             placeOf(text, e.byte), advice);
    } catch (const Json::exception&) {
        fail(ErrorKind::BadInput, "{}: this is not valid JSON: a number is too large. {}",
             shortName(file), advice);
    }
}

Json readJson(const std::string& path, int depth) {
    return parseJson(readTextFile(path, limits::kJsonBytes), path, depth);
}

namespace {

/// An array of one kind as a metadata array; nothing for empty, mixed or nested ones.
bool arrayValue(const Json& array, MetadataValue& out) {
    const auto all = [&](auto is) {
        return !array.empty() && std::all_of(array.begin(), array.end(), is);
    };
    const auto isInteger = [](const Json& v) {
        return v.is_number_integer() && !(v.is_number_unsigned() && v.get<uint64_t>() > INT64_MAX);
    };
    if (all([](const Json& v) { return v.is_string(); }))
        out.value = array.get<MetadataValue::Strings>();
    else if (all([](const Json& v) { return v.is_boolean(); }))
        out.value = array.get<MetadataValue::Booleans>();
    else if (all(isInteger))
        out.value = array.get<MetadataValue::Integers>();
    else if (all([](const Json& v) { return v.is_number(); }))
        out.value = array.get<MetadataValue::Floats>();
    else
        return false;
    return true;
}

} // namespace

void putJson(Metadata& out, const std::string& key, const Json& json) {
    const auto under = [&](const std::string& part) {
        return key.empty() ? part : key + "." + part;
    };
    MetadataValue value;
    if (json.is_object()) {
        for (const auto& [name, child] : json.items())
            putJson(out, under(name), child);
        return;
    }
    if (json.is_array()) {
        if (arrayValue(json, value))
            out.entries[key] = std::move(value);
        else
            for (size_t i = 0; i < json.size(); ++i)
                putJson(out, under(std::to_string(i)), json[i]);
        return;
    }
    if (json.is_null())
        return;
    if (json.is_boolean())
        value.value = json.get<bool>();
    else if (json.is_string())
        value.value = json.get<std::string>();
    else if (json.is_number_float())
        value.value = json.get<double>();
    else if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX)
        value.value = json.get<uint64_t>();
    else
        value.value = json.get<int64_t>();
    out.entries[key] = std::move(value);
}

} // namespace nibble
