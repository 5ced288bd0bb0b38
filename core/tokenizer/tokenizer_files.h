#pragma once

#include "core/tokenizer/tokenizer.h"

#include <map>
#include <string>

namespace nibble {

/// The vocabulary as the files of a Hugging Face folder, by name: tokenizer.json,
/// tokenizer_config.json (with the chat template, unless empty), special_tokens_map.json and
/// generation_config.json.
std::map<std::string, std::string>
tokenizerFiles(const Tokenizer& tokenizer, const std::string& chatTemplate, int64_t contextLength);

} // namespace nibble
