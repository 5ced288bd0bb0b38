#pragma once

#include "core/files/metadata.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace nibble {

/// JSON text from a file as a document. Error{BadInput} naming `file` when it is not valid JSON,
/// nests deeper than `depth`, repeats a key in one object, or holds a number beyond double;
/// `advice` says what to do about the first.
nlohmann::json parseJson(std::string_view text, const std::string& file, int depth,
                         std::string_view advice = "Download it again.");

/// readTextFile (at most limits::kJsonBytes) and parseJson.
nlohmann::json readJson(const std::string& path, int depth);

/// A document as entries whose keys are `key` and the names of its objects, with dots. Nulls and
/// empty arrays are left out.
void putJson(Metadata& metadata, const std::string& key, const nlohmann::json& json);

} // namespace nibble
