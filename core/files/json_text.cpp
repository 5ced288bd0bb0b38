#include "core/files/json_text.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"

#include <filesystem>
#include <set>
#include <vector>

namespace nibble {
namespace {

using Json = nlohmann::json;

std::string shortName(const std::string& file) {
    return printable(std::filesystem::path(file).filename().string());
}

} // namespace

Json parseJson(std::string_view text, const std::string& file, int depth) {
    std::vector<std::set<std::string>> keys;
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
    } catch (const Json::exception& e) {
        fail(ErrorKind::BadInput, "{}: this is not valid JSON: {}. Download it again.",
             shortName(file), printable(e.what(), 200));
    }
}

Json readJson(const std::string& path, int depth) {
    return parseJson(readTextFile(path, limits::kJsonBytes), path, depth);
}

} // namespace nibble
