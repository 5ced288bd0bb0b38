#pragma once

#include "core/tokenizer/text_splitter.h"

#include <string_view>

namespace nibble {

/// One cut of a rule set.
struct SplitPattern {
    std::string regex;        ///< PCRE2
    std::string spelled = {}; ///< as tokenizer.json files write it, where that differs
    int fromEnd = 0;          ///< see SplitRule
    bool onlyInside = false;  ///< see SplitRule
};

/// The pre-tokenizer of a family of models: one row per rule set (split_rules.cpp).
struct NamedSplit {
    std::vector<const char*> names; ///< tokenizer.ggml.pre values; the first is the canonical one
    std::vector<SplitPattern> patterns; ///< applied one after the other
    bool ignoreMerges = false;          ///< a word that is a token as a whole is not merged
    bool wholeLineBreaks = false;       ///< the same, but only for words of line breaks alone
    bool addBos = false;                ///< when the file does not say
    /// Tokens spell bytes by printable characters; else they are plain text with ▁ for a space.
    bool byteLevel = true;
};
std::span<const NamedSplit> namedSplits();

/// The rules of that name, or null.
const NamedSplit* findNamedSplit(std::string_view name);

/// A pattern of a tokenizer.json as the rules above have it: the same matches by a pattern that
/// takes linear time, where a row knows one.
SplitPattern knownPattern(const std::string& spelled);
/// And back: as tokenizer.json files write it.
std::string spelledPattern(const SplitPattern& pattern);

/// The compiled rules of a row.
std::vector<SplitRule> compile(const NamedSplit& split);

} // namespace nibble
