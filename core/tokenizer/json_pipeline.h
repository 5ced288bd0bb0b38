#pragma once

#include "core/tokenizer/bpe_tokenizer.h"

#include <nlohmann/json.hpp>

namespace nibble {

/// What a tokenizer.json does to text before merging.
struct JsonPipeline {
    BpeOptions options;
    std::string preTokenizer;          ///< the GGUF name of the same split rules, or empty
    std::vector<std::string> warnings; ///< a sentence for every part that is not understood
};

/// Reads "normalizer", "pre_tokenizer" and "decoder". Parts of an unknown type are left out with a
/// warning; parts of a wrong shape are Error{BadInput}.
JsonPipeline readJsonPipeline(const nlohmann::json& document, bool ignoreMerges,
                              const std::string& source);

/// document[key], or null when it is absent or JSON null.
const nlohmann::json* findMember(const nlohmann::json& object, const char* key);
/// A text, boolean or integer member; `fallback` when absent, Error{BadInput} when of another type.
std::string textOr(const nlohmann::json& object, const char* key, std::string_view fallback,
                   const std::string& source);
bool flagOr(const nlohmann::json& object, const char* key, bool fallback,
            const std::string& source);

} // namespace nibble
