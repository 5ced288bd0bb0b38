#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace nibble {

/// What was found out once and can be found out again: a JSON object from names to values, in a
/// file of the cache folder. Safe to use from several threads.

/// Null where there is none, or no file that can be read.
nlohmann::json keptValue(const std::string& file, const std::string& name);
/// Does nothing where the user has no folder for it, or the disk is full.
void keepValue(const std::string& file, const std::string& name, const nlohmann::json& value);

} // namespace nibble
