#pragma once

#include "core/tokenizer/text_splitter.h"

#include <string_view>

namespace nibble {

/// The pre-tokenizer of a family of models: one row per rule set (split_rules.cpp).
struct NamedSplit {
    std::vector<const char*> names; ///< tokenizer.ggml.pre values; the first is the canonical one
    std::vector<const char*> patterns; ///< PCRE2, applied one after the other
    bool ignoreMerges = false;         ///< a word that is a token as a whole is not merged
    bool addBos = false;               ///< when the file does not say
    /// The same rules as their models' tokenizer.json spells them, or null.
    const char* original = nullptr;
};
std::span<const NamedSplit> namedSplits();

/// The rules of that name, or null.
const NamedSplit* findNamedSplit(std::string_view name);
/// The rules whose tokenizer.json spelling is this pattern, or null.
const NamedSplit* findOriginalSplit(std::string_view pattern);

/// The compiled rules of a row.
std::vector<SplitRule> compile(const NamedSplit& split);

} // namespace nibble
