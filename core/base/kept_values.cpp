#include "core/base/kept_values.h"

#include "core/base/atomic_file.h"
#include "core/base/cache_folder.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"

#include <nlohmann/json.hpp>

#include <mutex>

namespace nibble {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kFileBytes = 1 << 20;

std::mutex& filesMutex() {
    static std::mutex mutex;
    return mutex;
}

Json readObject(const std::filesystem::path& file) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(file, ignored))
        return Json::object();
    try {
        Json kept = Json::parse(readTextFile(file, kFileBytes), nullptr, false);
        return kept.is_object() ? kept : Json::object();
    } catch (const Error&) {
        return Json::object();
    }
}

} // namespace

Json keptValue(const std::string& file, const std::string& name) {
    const std::filesystem::path folder = cacheFolder();
    if (folder.empty())
        return nullptr;
    const std::scoped_lock lock(filesMutex());
    const Json kept = readObject(folder / file);
    const auto at = kept.find(name);
    return at == kept.end() ? Json() : *at;
}

void keepValue(const std::string& file, const std::string& name, const Json& value) {
    const std::filesystem::path folder = cacheFolder();
    if (folder.empty())
        return;
    const std::scoped_lock lock(filesMutex());
    Json kept = readObject(folder / file);
    kept[name] = value;
    try {
        writeFileAtomically(folder / file,
                            kept.dump(2, ' ', false, Json::error_handler_t::replace));
    } catch (const Error&) { // then it is found out again
        return;
    }
}

} // namespace nibble
